use super::scene::Scene;
use super::{BOOT, choose_in_grub};
use crate::client::Firmware;
use crate::room::Systems;
use crate::suite::Context;
use crate::{Error, Result};

/// With Secure Boot a kernel whose signature does not fit goes no further than GRUB, which says so.
pub(super) fn refused(context: &Context<'_>) -> Result<()> {
    let signed = Systems::kernel(context.workspace)?;
    let bytes = std::fs::read(&signed).map_err(Error::io(format!("reading {}", signed.display())))?;
    let scratch = context.lab(0)?;
    let changed = scratch.scratch().join("vmlinuz");
    std::fs::write(&changed, without_signature(bytes)).map_err(Error::io("writing a kernel"))?;
    let scene = Scene::of(&[Firmware::SecureBoot]).loader("uefi-x64=grub");
    let stage = scene.set_with_kernel(context, &changed)?;
    let mut servers = stage.room.serve()?;
    let mut machines = stage.switch_on()?;
    for machine in &mut machines {
        choose_in_grub(machine)?;
        machine.wait_for("bad shim signature", BOOT)?;
        machine.wait_for("Rookery: the lines above say why that failed", BOOT)?;
    }
    drop(machines);
    servers.stop_all()
}

/// An EFI program without its certificate table: entry 4 of the data directories of its optional header (PE format).
fn without_signature(mut program: Vec<u8>) -> Vec<u8> {
    let word = |at: usize| program.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let header = word(0x3c).unwrap_or_default() as usize;
    // Signature 4, file header 20, then 112 bytes of a PE32+ optional header before the directories of 8 bytes each.
    let entry = header + 4 + 20 + 112 + 4 * 8;
    if let Some(entry) = program.get_mut(entry..entry + 8) {
        entry.fill(0);
    }
    program
}
