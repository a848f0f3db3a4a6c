//! The consent to erase a disk that the menu carries.

use boot_model::EraseConsent;

use crate::{console, machine::Machine};

/// The one of the kernel command line, if it is for this machine. One that is not is said, and is no reason not to boot: it only
/// takes nothing away from a disk.
pub(super) fn given(machine: &Machine) -> Option<EraseConsent> {
    let consent = match machine.read_command_line().ok()?.erase() {
        Ok(consent) => consent?,
        Err(error) => {
            console::say(&format!("rookery: no disk is erased: {error}"));
            return None;
        }
    };
    let card = machine.card();
    if card == Some(consent.mac) {
        return Some(consent);
    }
    let card = card.map_or_else(|| "none".to_owned(), |card| card.to_string());
    console::say(&format!(
        "rookery: no disk is erased: the consent is for the machine with the card {}, this one's is {card}",
        consent.mac
    ));
    None
}
