use std::time::{Duration, Instant};

use boot_model::GenerationRef;

use super::FileSystem;
use super::power::{self, Cut, Powered};
use crate::client::Agent;
use crate::dice::Dice;
use crate::nbd::Disk;
use crate::room::{Room, Systems};
use crate::servers::{Servers, Service};
use crate::system::Toplevel;
use crate::{Error, Lab, Result, Workspace, interrupt};

/// Both generations and what cut fetches leave behind.
const DISK: u64 = 2 << 30;
/// How often the power goes after the fetch, in percent; else it goes in the fetch.
const AFTERWARDS: f64 = 25.0;
/// The kernel's own writing back has happened by then (dirty pages expire after 30 s, journals commit each 5 s).
const MINUTE: Duration = Duration::from_secs(60);

/// The power is cut `cuts` times. Returns after how many of them something was wrong.
pub(super) fn run(workspace: &Workspace, cuts: u32, file_system: FileSystem, dice: &mut Dice) -> Result<u32> {
    println!("building both generations (Debian packages as store paths; the first time they are downloaded)");
    let systems = Systems::build(workspace)?;
    let lab = Lab::open("soak-closure", &workspace.logs("soak"), 0)?;
    let room = Room::for_client(workspace, lab, &systems)?;
    let first = room.publish(&systems.first.path)?;
    let second = room.publish(&systems.second.path)?;
    let mut servers = Servers::new(&room.lab, workspace, &room.site);
    servers.start_one(Service::NarCache)?;
    let agent = Agent::new(&room.lab, workspace, &systems.public_key(), &room.lab.scratch().join("client"))?;
    let soak = Soak { room: &room, agent, root: room.lab.scratch().join("client"), file_system };
    let scenes = soak.prepare((&first, &systems.first), (&second, &systems.second))?;
    let mut failed = 0;
    for number in 1..=cuts {
        let scene = &scenes[dice.below(scenes.len() as u64) as usize];
        let start = Instant::now();
        let outcome = soak.accident(scene, dice);
        interrupt::check()?;
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(story) => println!("  ok     {seconds:>6.1} s  {number:>3}: {}, {story}", scene.name),
            Err(error) => {
                failed += 1;
                println!("  FAILED {seconds:>6.1} s  {number:>3}: {}: {error}", scene.name);
            }
        }
    }
    servers.stop_all()?;
    println!("the whole log: {}", room.lab.log().path().display());
    Ok(failed)
}

struct Soak<'a> {
    room: &'a Room,
    agent: Agent<'a>,
    root: std::path::PathBuf,
    file_system: FileSystem,
}

/// A fetch that will be cut.
struct Scene<'a> {
    name: &'static str,
    /// What the disk holds before.
    before: Disk,
    generation: &'a GenerationRef,
    toplevel: &'a Toplevel,
    /// How long the fetch takes when nothing disturbs it.
    takes: Duration,
}

impl Soak<'_> {
    /// Fetches each generation once without an accident: how long that takes, and what it leaves for the next.
    fn prepare<'b>(
        &self,
        first: (&'b GenerationRef, &'b Toplevel),
        second: (&'b GenerationRef, &'b Toplevel),
    ) -> Result<[Scene<'b>; 2]> {
        let scratch = self.room.lab.scratch();
        let blank = Disk::create(scratch, "blank", DISK)?;
        let powered = Powered::blank(&self.room.lab, &self.root, self.file_system, blank)?;
        let empty = powered.copy("empty")?;
        let takes_first = self.whole(first)?;
        let full = powered.copy("full")?;
        let takes_second = self.whole(second)?;
        Ok([
            Scene { name: "first fetch", before: empty, generation: first.0, toplevel: first.1, takes: takes_first },
            Scene { name: "update", before: full, generation: second.0, toplevel: second.1, takes: takes_second },
        ])
    }

    /// A boot without an accident, as far as the disk sees it.
    fn whole(&self, (generation, toplevel): (&GenerationRef, &Toplevel)) -> Result<Duration> {
        self.agent.choose(generation, toplevel)?;
        let start = Instant::now();
        self.agent.fetch(&[])?.expect_success()?;
        let took = start.elapsed();
        self.agent.register()?;
        self.agent.verify(toplevel)?;
        Ok(took)
    }

    /// One fetch, one cut, and the boot after it. Says what was cut, or what was wrong afterwards.
    fn accident(&self, scene: &Scene<'_>, dice: &mut Dice) -> Result<String> {
        let lab = &self.room.lab;
        let disk = power::copy(&scene.before, lab, "used")?;
        let powered = Powered::on(lab, &self.root, self.file_system, disk, "used")?;
        self.agent.choose(scene.generation, scene.toplevel)?;
        let afterwards = dice.hits(AFTERWARDS);
        let percent = dice.below(101);
        let (disk, cut, moment) = if afterwards {
            self.agent.fetch(&[])?.expect_success()?;
            self.agent.register()?;
            let moment = fraction(MINUTE, dice);
            lab.pause(moment)?;
            let (disk, cut) = powered.cut("survivor", dice, percent as f64)?;
            (disk, cut, moment)
        } else {
            let mut fetch = self.agent.start_fetch(&[])?;
            let moment = fraction(scene.takes, dice);
            lab.pause(moment)?;
            let (disk, cut) = powered.cut("survivor", dice, percent as f64)?;
            fetch.kill();
            (disk, cut, moment)
        };
        drop(powered);
        let story = story(afterwards, moment, cut);
        lab.log().note("lab", &story);
        let powered = Powered::on(lab, &self.root, self.file_system, disk, "survivor")?;
        let after = self.whole((scene.generation, scene.toplevel));
        drop(powered);
        after.map(|_| story.clone()).map_err(|error| Error::Wrong(format!("{story}: {error}")))
    }
}

fn fraction(of: Duration, dice: &mut Dice) -> Duration {
    of.mul_f64(dice.below(1001) as f64 / 1000.0)
}

fn story(afterwards: bool, moment: Duration, Cut { kept, lost }: Cut) -> String {
    let seconds = moment.as_secs_f64();
    let place = if afterwards { "after it had ended" } else { "into it" };
    format!("cut {seconds:.2} s {place}; of the unflushed sectors {kept} were kept, {lost} lost")
}
