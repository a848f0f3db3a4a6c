//! Everything is well, or comes right by itself.

use std::time::Duration;

use super::{Scene, scene};
use crate::Result;
use crate::room::BUNDLE_AGAIN;
use crate::servers::Service;
use crate::suite::Context;

/// An empty disk gets every pack once, not a byte more; the same generation again asks for facts at most.
pub(super) fn first_then_nothing(context: &Context<'_>) -> Result<()> {
    scene(context, |scene| {
        let first = &scene.systems.first;
        let packed = scene.packed_size(first)?;
        let before = scene.servers.mark()?;
        scene.boot(&scene.first, first)?;
        scene.expect_sent(&before, "every pack once, and one manifest", |sent| {
            (sent.nar_bytes, sent.bundle_bytes, sent.manifests) == (packed, 0, 1)
        })?;
        let init = format!("{}/init", first.path);
        context.expect(scene.agent.init().as_ref() == Some(&init), || format!("init is {:?}", scene.agent.init()))?;

        let before = scene.servers.mark()?;
        scene.boot(&scene.first, first)?;
        scene.expect_sent(&before, "one manifest at most", |sent| {
            (sent.nar_bytes, sent.bundle_bytes) == (0, 0) && sent.manifests <= 1
        })
    })
}

/// The next generation comes out of its bundle, and of nothing else.
pub(super) fn update_by_bundle(context: &Context<'_>) -> Result<()> {
    scene(context, |scene| {
        scene.boot(&scene.first, &scene.systems.first)?;
        let second = scene.room.publish(&scene.systems.second.path)?;
        let size = scene.room.bundle_size(&scene.first, &second)?;
        let before = scene.servers.mark()?;
        scene.boot(&second, &scene.systems.second)?;
        let most = size + BUNDLE_AGAIN;
        scene.expect_sent(&before, &format!("at most {most} bytes of the bundle and no pack"), |sent| {
            (1..=most).contains(&sent.bundle_bytes) && sent.nar_bytes == 0
        })?;
        let changed = scene.systems.difference();
        let packed = scene.room.packed_size(changed.new.iter().map(|path| path.path.as_str()))?;
        context.expect(size < packed, || format!("the bundle has {size} bytes, the packs that it replaces {packed}"))
    })
}

/// nar-cache dies 20 times, wherever it is, while a slow client fetches.
pub(super) fn server_killed(context: &Context<'_>) -> Result<()> {
    const TIMES: u32 = 20;
    /// The fetch, at this rate, outlasts most of the kills.
    const RATE: &str = "200mbit";
    /// Milliseconds.
    const LIFE: u64 = 400;
    scene(context, |mut scene| {
        let mut dice = context.dice();
        slow_down(&scene, RATE)?;
        let before = scene.servers.mark()?;
        scene.agent.choose(&scene.first, &scene.systems.first)?;
        let mut fetch = scene.agent.start_fetch(&[])?;
        for _ in 0..TIMES {
            scene.room.lab.pause(Duration::from_millis(dice.below(LIFE)))?;
            scene.servers.kill(Service::NarCache);
            scene.servers.start_one(Service::NarCache)?;
        }
        let status = fetch.wait(crate::room::BOOT)?;
        context.expect(status.success(), || format!("the fetch ended with {status}"))?;
        // A killed server has no time to write its event, so the sum of bytes says nothing here.
        scene.expect_sent(&before, "a transfer that was resumed", |sent| sent.resumed > 0)?;
        scene.agent.register()?;
        scene.agent.verify(&scene.systems.first)
    })
}

fn slow_down(scene: &Scene<'_>, rate: &str) -> Result<()> {
    let namespace = scene.room.lab.namespace();
    let mut tc = namespace.command("tc");
    // Client and server share the namespace, so their cable is the loopback interface.
    tc.args(["qdisc", "add", "dev", "lo", "root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms"]);
    crate::process::run(&mut tc).map(drop)
}
