use boot_model::StorePath;

use super::error::TreeError;
use super::{MAX_PATCHED, max_frame};
use crate::nar::{MAX_DEPTH, MAX_FILE, MAX_TARGET, is_entry_name};

/// One step through a path's tree, in the order of its NAR: a directory's entries follow it, each with its node, then its
/// end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// A directory begins.
    Directory,
    /// The name of the open directory's next entry; its node follows.
    Entry(&'a [u8]),
    /// A regular file.
    File {
        /// Whether it may be executed.
        executable: bool,
        /// Where its contents come from.
        source: Source<'a>,
    },
    /// A symbolic link and its target.
    Symlink(&'a [u8]),
    /// The directory is whole.
    EndOfDirectory,
}

/// Where a file's contents come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// The base with its references renamed.
    Copy {
        /// A file of the old closure.
        base: Base<'a>,
    },
    /// A frame that has the renamed base as its prefix.
    Patch {
        /// A file of the old closure, of [`MAX_PATCHED`] bytes at most.
        base: Base<'a>,
        /// Bytes of the file, [`MAX_PATCHED`] at most.
        size: u64,
        /// Bytes of the frame.
        frame: u64,
    },
    /// A frame that holds the file.
    Data {
        /// Bytes of the file.
        size: u64,
        /// Bytes of the frame.
        frame: u64,
    },
}

/// A file of the old closure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base<'a> {
    /// The file of the same name in the path that this one is paired with.
    Same,
    /// Any other.
    Other {
        /// Its store path.
        path: &'a StorePath,
        /// Its name in there: components and slashes, none of them `.` or `..`; empty if the path is itself the file.
        name: &'a [u8],
    },
}

impl Record<'_> {
    /// Bytes of the frame that belongs to it; 0 without one.
    pub fn frame(&self) -> u64 {
        match self {
            Self::File { source: Source::Patch { frame, .. } | Source::Data { frame, .. }, .. } => *frame,
            _ => 0,
        }
    }
}

/// Checks that records make one tree.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    paired: bool,
    /// For each open directory the last entry's name; empty before the first.
    open: Vec<Vec<u8>>,
    next: Next,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Node,
    EntryOrEnd,
    Nothing,
}

impl Shape {
    /// The shape of a path that is `paired` with one of the old closure, or not.
    pub(super) fn new(paired: bool) -> Self {
        Self { paired, open: Vec::new(), next: Next::Node }
    }

    pub(super) fn next(&self) -> Next {
        self.next
    }

    pub(super) fn finish(&self) -> Result<(), TreeError> {
        if self.next == Next::Nothing { Ok(()) } else { Err(TreeError::Unfinished) }
    }

    pub(super) fn accept(&mut self, record: &Record) -> Result<(), TreeError> {
        match (self.next, record) {
            (Next::Node, Record::Directory) if self.open.len() >= MAX_DEPTH => return Err(TreeError::Depth),
            (Next::Node, Record::Directory) => {
                self.open.push(Vec::new());
                self.next = Next::EntryOrEnd;
            }
            (Next::Node, Record::File { source, .. }) => {
                self.check_source(source)?;
                self.node_is_whole();
            }
            (Next::Node, Record::Symlink(target)) => {
                if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
                    return Err(TreeError::Name(lossy(target)));
                }
                self.node_is_whole();
            }
            (Next::EntryOrEnd, Record::Entry(name)) => {
                self.check_entry(name)?;
                self.next = Next::Node;
            }
            (Next::EntryOrEnd, Record::EndOfDirectory) => {
                self.open.pop();
                self.node_is_whole();
            }
            _ => return Err(TreeError::Misplaced),
        }
        Ok(())
    }

    fn node_is_whole(&mut self) {
        self.next = if self.open.is_empty() { Next::Nothing } else { Next::EntryOrEnd };
    }

    fn check_entry(&mut self, name: &[u8]) -> Result<(), TreeError> {
        if !is_entry_name(name) {
            return Err(TreeError::Name(lossy(name)));
        }
        if let Some(last) = self.open.last_mut() {
            if last.as_slice() >= name {
                return Err(TreeError::Order { name: lossy(name), after: lossy(last) });
            }
            last.clear();
            last.extend_from_slice(name);
        }
        Ok(())
    }

    fn check_source(&self, source: &Source) -> Result<(), TreeError> {
        if let Source::Copy { base } | Source::Patch { base, .. } = source {
            match base {
                Base::Same if !self.paired => return Err(TreeError::Unpaired),
                Base::Other { name, .. } if !is_name_in_path(name) => return Err(TreeError::Name(lossy(name))),
                Base::Same | Base::Other { .. } => {}
            }
        }
        match *source {
            Source::Patch { size, .. } if size > MAX_PATCHED => Err(TreeError::Patched(size)),
            Source::Patch { size, frame, .. } | Source::Data { size, frame }
                if frame == 0 || frame > max_frame(size) || size > MAX_FILE =>
            {
                Err(TreeError::Frame { frame, size })
            }
            _ => Ok(()),
        }
    }
}

/// Whether a file within a store path can have this name.
fn is_name_in_path(name: &[u8]) -> bool {
    name.is_empty() || (name.len() <= MAX_TARGET && name.split(|&byte| byte == b'/').all(is_entry_name))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
