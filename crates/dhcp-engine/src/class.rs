use boot_model::{Circuit, Firmware};
use dhcproto::v4::OptionCode;

use crate::client::ClientInfo;
use crate::wire::Request;

/// Machines that are alike in what they send, and that boot something else than their firmware alone would say. Each list that
/// holds something must hold what the machine sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// What reasons call it.
    pub name: String,
    /// What runs the loader.
    pub firmware: Vec<Firmware>,
    /// How hardware addresses begin.
    pub macs: Vec<Vec<u8>>,
    /// How option 60 begins.
    pub vendor_classes: Vec<String>,
    /// Option 77, raw or as one of several (RFC 3004).
    pub user_classes: Vec<String>,
    /// The wire by the relay agent's word (RFC 3046).
    pub circuits: Vec<Circuit>,
    /// What it boots.
    pub boot: ClassBoot,
}

/// What the machines of a class boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassBoot {
    /// Nothing: they get an address only.
    Nothing,
    /// What others boot, by this loader where the table of loaders has another. iPXE is its own loader.
    Loader(String),
}

impl Class {
    pub(crate) fn fits(&self, request: &Request<'_>, client: &ClientInfo) -> bool {
        let sent = |code| request.options.raw(code).unwrap_or_default();
        let circuit = request.circuit().and_then(Circuit::new);
        one_of(&self.firmware, |firmware| client.firmware == Some(*firmware))
            && one_of(&self.macs, |start| request.hardware_address().starts_with(start))
            && one_of(&self.vendor_classes, |start| sent(OptionCode::ClassIdentifier).starts_with(start.as_bytes()))
            && one_of(&self.user_classes, |class| has_user_class(sent(OptionCode::UserClass), class.as_bytes()))
            && one_of(&self.circuits, |named| circuit.as_ref() == Some(named))
    }
}

fn one_of<T>(list: &[T], fits: impl Fn(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(fits)
}

/// Option 77 is a list of texts, each behind its length (RFC 3004 §4); iPXE and others send one bare text.
fn has_user_class(sent: &[u8], wanted: &[u8]) -> bool {
    if sent == wanted {
        return true;
    }
    let mut rest = sent;
    while let [length, tail @ ..] = rest
        && let Some((class, tail)) = tail.split_at_checked(usize::from(*length))
    {
        if class == wanted {
            return true;
        }
        rest = tail;
    }
    false
}
