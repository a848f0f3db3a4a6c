//! Wishes for machines' next boots, and the events that say that they were fulfilled.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use boot_model::event::{Event, EventKind};
use boot_model::intent::Intent;
use boot_model::{GenerationRef, MacAddr, Timestamp};
use config::{Mode, Network, Subnet};
use generations::Layout;
use tracing::{info, warn};

use crate::followed::Followed;

/// Follows `intents/` and, while something is wished, the events of the services: those of `nar-cache`, which believes a report only
/// from the address of its machine, and of `tftpd`, which knows addresses and no machines, with what `dhcpd` has said of them.
///
/// A wish that is fulfilled is removed here, so that the next menu is the usual one; should that fail, it is no longer heeded as long
/// as this process runs.
#[derive(Debug)]
pub struct Intents {
    layout: Layout,
    dhcpd: Followed,
    nar_cache: Followed,
    tftpd: Followed,
    /// The networks where another server gives the addresses, and ours says what to boot.
    foreign: Vec<Network>,
    /// The addresses of machines with a wish, and since when.
    leased: HashMap<Ipv4Addr, (MacAddr, Timestamp)>,
    /// In force.
    active: BTreeMap<MacAddr, Intent>,
    /// The generations whose entries have carried a machine's consent to erase; `None` before the first set of menus stands.
    carried: Option<BTreeMap<MacAddr, BTreeSet<GenerationRef>>>,
    /// Fulfilled or void, and not to be read again.
    done: Vec<Intent>,
    /// Files that can't be read, said once.
    refused: Vec<String>,
}

impl Intents {
    /// Nothing is read yet.
    pub fn new(layout: &Layout, subnets: &[Subnet]) -> Self {
        let foreign = subnets.iter().filter(|subnet| subnet.mode == Mode::Proxy).map(|subnet| subnet.network);
        Self {
            layout: layout.clone(),
            dhcpd: Followed::new(layout, "dhcpd"),
            nar_cache: Followed::new(layout, "nar-cache"),
            tftpd: Followed::new(layout, "tftpd"),
            foreign: foreign.collect(),
            leased: HashMap::new(),
            active: BTreeMap::new(),
            carried: None,
            done: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// What is wished, by machine.
    pub const fn active(&self) -> &BTreeMap<MacAddr, Intent> {
        &self.active
    }

    /// What is wished now, for those who only look.
    pub fn look(layout: &Layout, now: Timestamp) -> BTreeMap<MacAddr, Intent> {
        let mut intents = Self::new(layout, &[]);
        intents.read(now);
        intents.active
    }

    /// Reads what changed, and removes what was fulfilled; true if something else is wished than before.
    pub fn refresh(&mut self, now: Timestamp) -> bool {
        let before = self.active.clone();
        self.read(now);
        if let Some(carried) = &mut self.carried {
            // What carried the consent of a wish says nothing about the next one.
            carried.retain(|mac, _| self.active.get(mac) == before.get(mac));
        }
        if self.active.is_empty() {
            [&mut self.dhcpd, &mut self.nar_cache, &mut self.tftpd].into_iter().for_each(Followed::forget);
            self.leased.clear();
        } else if self.carried.is_some() || self.active.values().all(|intent| intent.consent().is_none()) {
            self.follow_events();
        }
        before != self.active
    }

    /// To be told which generations carry which machine's consent, in the set of menus that stands now. A machine may still boot what an
    /// earlier set said, so those count as long as the wish stands.
    pub fn carried(&mut self, erasing: BTreeMap<MacAddr, BTreeSet<GenerationRef>>) {
        let carried = self.carried.get_or_insert_default();
        for (mac, generations) in erasing {
            carried.entry(mac).or_default().extend(generations);
        }
    }

    fn read(&mut self, now: Timestamp) {
        let mut found = BTreeMap::new();
        let mut refused = Vec::new();
        for path in files(&self.layout) {
            match fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| Intent::from_json(&bytes).map_err(|error| error.to_string()))
            {
                // The name is where the CLI looks; a copy under another one would be a second wish.
                Ok(intent) if path == self.layout.intent(intent.mac) => {
                    found.insert(intent.mac, intent);
                }
                Ok(intent) => refused.push(format!("{}: it is about {}", path.display(), intent.mac)),
                Err(error) => refused.push(format!("{}: {error}", path.display())),
            }
        }
        for reason in refused.iter().filter(|reason| !self.refused.contains(reason)) {
            warn!(reason, "a wish cannot be read");
        }
        self.refused = refused;
        self.done.retain(|done| found.get(&done.mac) == Some(done));
        found.retain(|_, intent| intent.expires > now && !self.done.contains(intent));
        self.active = found;
    }

    fn follow_events(&mut self) {
        for event in self.dhcpd.news() {
            self.learn(&event);
        }
        for event in self.nar_cache.news() {
            self.heed(&event);
        }
        for event in self.tftpd.news() {
            let leased = event.address.and_then(|address| self.leased.get(&address));
            let mac = leased.filter(|(_, since)| event.time >= *since).map(|(mac, _)| *mac);
            self.heed(&Event { mac, ..event });
        }
    }

    /// Remembers whose an address is: a room of thousands has few machines with a wish.
    ///
    /// Where we give the addresses only a lease says so: the other answers repeat what a sender wrote. Beside another server nothing
    /// better is known than whom port 4011 was asked by, which says nothing about addresses of ours.
    fn learn(&mut self, event: &Event) {
        let EventKind::Dhcp { message, .. } = &event.kind else { return };
        let (Some(mac), Some(address)) = (event.mac, event.address) else { return };
        let Self { foreign, .. } = self;
        let is_foreign = |address| foreign.iter().any(|network| network.contains_host(address));
        let here = is_foreign(address);
        if message != if here { "BOOT-SERVER" } else { "ACK" } {
            return;
        }
        self.leased.retain(|known, (owner, _)| *known != address && (*owner != mac || is_foreign(*known) != here));
        if self.active.contains_key(&mac) {
            self.leased.insert(address, (mac, event.time));
        }
    }

    fn heed(&mut self, event: &Event) {
        let Some(intent) = event.mac.and_then(|mac| self.active.get(&mac)) else { return };
        let carried = self.carried.as_ref().and_then(|carried| carried.get(&intent.mac));
        if intent.fulfilled_by(event, |generation| carried.is_some_and(|carried| carried.contains(generation))) {
            let mac = intent.mac;
            info!(%mac, "the wish for the next boot is fulfilled");
            self.forget(mac);
        }
    }

    fn forget(&mut self, mac: MacAddr) {
        let Some(intent) = self.active.remove(&mac) else { return };
        let path = self.layout.intent(mac);
        // Unless somebody has wished something else in the meantime.
        let unchanged = fs::read(&path).is_ok_and(|bytes| Intent::from_json(&bytes).is_ok_and(|read| read == intent));
        if unchanged && let Err(error) = fs::remove_file(&path) {
            warn!(%error, path = %path.display(), "a fulfilled wish cannot be removed");
        }
        self.done.push(intent);
    }
}

/// What lies in `intents/`, which need not be there. Names that begin with a dot are being written.
fn files(layout: &Layout) -> Vec<PathBuf> {
    let entries = fs::read_dir(layout.intents()).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            !name.starts_with(b".") && name.ends_with(b".json")
        })
        .collect();
    files.sort();
    files
}
