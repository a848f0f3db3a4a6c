use super::{END, FILE, SNAME};

/// Options for the fields `file` and `sname` of a reply that names nothing to boot: option overload (RFC 2131 §4.1).
#[derive(Debug, Default)]
pub(super) struct Overload {
    file: Vec<u8>,
    sname: Vec<u8>,
}

/// Option 52 with its value.
pub(super) const LENGTH: usize = 3;

const OVERLOAD: u8 = 52;

impl Overload {
    /// Takes a whole option, if one of the fields has room for it and the mark of its end.
    pub(super) fn take(&mut self, framed: &[u8]) -> bool {
        for (field, size) in [(&mut self.file, FILE.len()), (&mut self.sname, SNAME.len())] {
            if field.len() + framed.len() < size {
                field.extend_from_slice(framed);
                return true;
            }
        }
        false
    }

    /// Writes the fields of a message, and returns the option 52 that says so.
    pub(super) fn write(&self, message: &mut [u8]) -> [u8; LENGTH] {
        let mut used = 0;
        for (bit, place, field) in [(1, FILE, &self.file), (2, SNAME, &self.sname)] {
            if !field.is_empty() {
                used |= bit;
                message[place.start..place.start + field.len()].copy_from_slice(field);
                message[place.start + field.len()] = END;
            }
        }
        [OVERLOAD, 1, used]
    }
}
