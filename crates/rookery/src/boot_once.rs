use std::fs;
use std::io;
use std::path::Path;

use boot_model::intent::{Intent, Next};
use boot_model::{MacAddr, Nonce, Timestamp};
use config::{Config, Host};
use serde_json::json;
use service::Failure;

use crate::arguments::BootOnceArguments;
use crate::output::Output;
use crate::site::Site;

const HOUR: u64 = 3_600_000;

/// Writes what a machine is to do at its next boot, or takes it back. The menu generator sees the file within a second.
pub(crate) fn boot_once(
    site: &Site,
    output: Output,
    config: Option<&Path>,
    request: &BootOnceArguments,
) -> Result<(), Failure> {
    let config = config::load(config.unwrap_or(Path::new(config::DEFAULT_FILE))).map_err(Failure::configuration)?;
    let host = host(&config, &request.host)?;
    let path = site.layout.intent(host.mac);
    if request.entry == "nothing" {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::runtime(format!("cannot remove {}: {error}", path.display())));
            }
            _ => {}
        }
        return output
            .answer(|| format!("{} boots as usual", host.name), || json!({ "host": host.name, "next": null }));
    }
    let next = next(site, host, request)?;
    let created = service::unix_millis();
    let at = Timestamp::from_unix_millis;
    let expires = at(created.saturating_add(u64::from(request.hours) * HOUR));
    let intent = Intent::new(host.mac, at(created), expires, next);
    publish::make_directories(&site.layout.intents())?;
    publish::write_file(&path, &intent.to_json())?;
    output.answer(
        || format!("at its next boot {} {}; void after {expires}", host.name, sentence(&intent.next)),
        || json!({ "host": host.name, "intent": intent }),
    )
}

fn next(site: &Site, host: &Host, request: &BootOnceArguments) -> Result<Next, Failure> {
    let Some(role) = &host.role else {
        return Err(Failure::usage(format!(
            "{} has no role, and so no menu of its own; give it one in hosts.d",
            host.name
        )));
    };
    match (request.entry.as_str(), &request.disk_serial) {
        ("reinstall", Some(serial)) => Ok(Next::Reinstall { serial: serial.clone(), nonce: nonce()? }),
        ("reinstall", None) => Err(Failure::usage(
            "say which disk may be erased with --disk-serial; the machine shows it when it refuses a disk, and `lsblk -o \
             NAME,SERIAL` on it",
        )),
        (_, Some(_)) => Err(Failure::usage("--disk-serial is for reinstall alone")),
        ("memtest", None) => Ok(Next::Memtest),
        (generation, None) => Ok(Next::Generation { generation: site.generation_of(role, generation)? }),
    }
}

fn host<'a>(config: &'a Config, name: &str) -> Result<&'a Host, Failure> {
    let mac = name.parse::<MacAddr>().ok();
    let found = config.hosts.iter().find(|host| host.name.as_str() == name || Some(host.mac) == mac);
    found.ok_or_else(|| Failure::usage(format!("no host in hosts.d is called {name:?} or has such a card")))
}

/// A second wish for the same disk is another consent.
fn nonce() -> Result<Nonce, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::runtime(format!("no random numbers: {error}")))?;
    Ok(Nonce::new(bytes))
}

fn sentence(next: &Next) -> String {
    match next {
        Next::Generation { generation } => format!("boots {generation}"),
        Next::Memtest => "tests its memory".to_owned(),
        Next::Reinstall { serial, .. } => format!("erases its disk {serial} and boots its role's default"),
    }
}
