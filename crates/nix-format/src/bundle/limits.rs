use super::BundleError;

/// What an index may hold at most. What is read of one takes more memory than its bytes, several times as much where paths are
/// small; whoever does not trust a bundle knows the two generations, and so what it can need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    paths: usize,
    bases: usize,
    renames: usize,
}

impl Limits {
    /// As many as the index has room for: for bundles of one's own.
    pub const NONE: Self = Self { paths: usize::MAX, bases: usize::MAX, renames: usize::MAX };

    /// Those of a bundle from a generation of `old` paths to one of `new`.
    pub const fn between(old: usize, new: usize) -> Self {
        let both = old.saturating_add(new);
        Self { paths: new, bases: both, renames: both }
    }

    pub(super) fn check_paths(self, count: usize) -> Result<(), BundleError> {
        check("paths", count as u64, self.paths)
    }

    pub(super) fn check_bases(self, count: u64) -> Result<(), BundleError> {
        check("bases", count, self.bases)
    }

    pub(super) fn check_renames(self, count: u64) -> Result<(), BundleError> {
        check("renames", count, self.renames)
    }
}

fn check(what: &'static str, count: u64, most: usize) -> Result<(), BundleError> {
    if count > most as u64 { Err(BundleError::TooMany { what, most }) } else { Ok(()) }
}
