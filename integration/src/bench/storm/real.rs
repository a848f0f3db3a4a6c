//! Real clients at once: agents from nar-cache, and stock Nix from nginx, each to a store that Nix takes for whole.

use std::path::PathBuf;
use std::thread;

use crate::bench::closure::{Clients, agent, fetch_and_register};
use crate::bench::measured::Cost;
use crate::bench::peer::StockNix;
use crate::bench::web::{Cable, Content, Web};
use crate::bench::{Row, percentile};
use crate::{Error, Result, Workspace, interrupt};

const CLIENTS: usize = 4;

pub(super) fn run(workspace: &Workspace, content: &Content) -> Result<Vec<Row>> {
    let (room, (generation, toplevel)) = (&content.room, &content.large);
    let directories: Vec<Clients> = (0..CLIENTS)
        .map(|number| Clients::at(&room.lab.scratch().join(format!("real-{number}"))))
        .collect::<Result<_>>()?;
    let server = Web::nginx(workspace, room, 8081, true)?;
    let nix = StockNix::from(workspace, &server, "")?;
    drop(server);
    let _cable = Cable::of(&room.lab, &format!("{}mbit", super::LINK))?;
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..super::TIMES {
        interrupt::check()?;
        let server = Web::ours(workspace, room)?;
        ours.push(at_once(&directories, |root| {
            fetch_and_register(&agent(workspace, room, &root)?, generation, toplevel)
        })?);
        drop(server);
        let _server = Web::nginx(workspace, room, 8081, true)?;
        peers.push(at_once(&directories, |root| Cost::of("nix-store", || nix.realise(room, toplevel, &root)))?);
    }
    let row = |measure: &str, percent| {
        let median = |storms: &[Vec<f64>]| {
            let figures: Vec<f64> = storms.iter().map(|seconds| percentile(seconds, percent)).collect();
            percentile(&figures, 50)
        };
        let measure = format!("storm of {CLIENTS} real clients: {measure}");
        Row::at_most(measure, "s", median(&ours), nix.peer(median(&peers)), None)
    };
    Ok(vec![row("p50", 50), row("the last", 100)])
}

/// The seconds of each client, which all begin with nothing at the same moment.
fn at_once(clients: &[Clients], fetch: impl Fn(PathBuf) -> Result<Cost> + Sync) -> Result<Vec<f64>> {
    let roots = clients.iter().map(Clients::empty).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let threads: Vec<_> = roots.into_iter().map(|root| scope.spawn(|| fetch(root))).collect();
        let costs = threads.into_iter().map(|thread| match thread.join() {
            Ok(cost) => Ok(cost?.seconds),
            Err(_) => Err(Error::Wrong("a client panicked".into())),
        });
        costs.collect()
    })
}
