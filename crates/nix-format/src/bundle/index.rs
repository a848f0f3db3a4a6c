use std::collections::HashSet;
use std::ops::Range;

use boot_model::{StoreHash, StorePath};

use super::error::{BundleError, TreeError};
use super::record::{Base, Next, Record, Shape, Source};
use super::wire::Cursor;
use super::{Head, Limits, MAX_INDEX};
use crate::nar::{MAX_NAME, MAX_TARGET};
use crate::renames::Renames;

/// What a bundle holds, and where.
#[derive(Debug, Clone)]
pub struct Index {
    raw: Vec<u8>,
    renames: Renames,
    bases: Vec<StorePath>,
    paths: Vec<Span>,
    end: u64,
}

/// One path of the new closure.
#[derive(Debug, Clone, Copy)]
pub struct BundledPath<'a> {
    index: &'a Index,
    span: &'a Span,
}

/// The records of one path.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    bases: &'a [StorePath],
    shape: Shape,
}

#[derive(Debug, Clone)]
struct Span {
    store_path: StorePath,
    base: Option<usize>,
    /// Where its records begin in the index.
    records: usize,
    /// Where its frames are in the file.
    frames: Range<u64>,
}

impl Index {
    /// Parses an uncompressed index and checks all of it. No memory is taken for more than `limits` allows.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn parse(head: &Head, raw: Vec<u8>, limits: Limits) -> Result<Self, BundleError> {
        if raw.len() != head.index_size() as usize || raw.len() > MAX_INDEX as usize {
            return Err(BundleError::IndexLength { expected: head.index_size(), found: raw.len() });
        }
        let mut cursor = Cursor::new(&raw, 0);
        let renames = renames(&mut cursor, limits)?;
        let bases = bases(&mut cursor, limits)?;
        let (mut paths, mut seen) = (Vec::new(), HashSet::new());
        let mut end = head.frames_begin();
        while !cursor.is_empty() {
            limits.check_paths(paths.len() + 1)?;
            let name = { cursor }.text(MAX_NAME)?;
            let span = span(&mut cursor, &bases, end)?;
            if !seen.insert(name) {
                return Err(BundleError::Twice(span.store_path));
            }
            end = span.frames.end;
            paths.push(span);
        }
        Ok(Self { renames, bases, paths, end, raw })
    }

    /// What is renamed in every base before it is used.
    pub fn renames(&self) -> &Renames {
        &self.renames
    }

    /// The paths, references first; their frames lie in the file in this order, without gaps.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = BundledPath<'_>> {
        self.paths.iter().map(|span| BundledPath { index: self, span })
    }

    /// Bytes of the whole bundle.
    pub fn bundle_size(&self) -> u64 {
        self.end
    }
}

impl<'a> BundledPath<'a> {
    /// Its store path.
    pub fn store_path(&self) -> &'a StorePath {
        &self.span.store_path
    }

    /// The path of the old closure that it is paired with.
    pub fn base(&self) -> Option<&'a StorePath> {
        self.span.base.map(|base| &self.index.bases[base])
    }

    /// Which bytes of the bundle are its frames, in the order of its records.
    pub fn frames(&self) -> Range<u64> {
        self.span.frames.clone()
    }

    /// Its tree.
    pub fn records(&self) -> Records<'a> {
        Records {
            cursor: Cursor::new(&self.index.raw, self.span.records),
            bases: &self.index.bases,
            shape: Shape::new(self.span.base.is_some()),
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        // The index was checked when it was parsed, so there is no error to swallow.
        self.step().ok().flatten()
    }
}

impl<'a> Records<'a> {
    fn step(&mut self) -> Result<Option<Record<'a>>, Fault> {
        let record = match self.shape.next() {
            Next::Nothing => return Ok(None),
            Next::EntryOrEnd => match self.cursor.text(MAX_NAME)? {
                [] => Record::EndOfDirectory,
                name => Record::Entry(name),
            },
            Next::Node => self.node()?,
        };
        self.shape.accept(&record)?;
        Ok(Some(record))
    }

    fn node(&mut self) -> Result<Record<'a>, BundleError> {
        let kind = self.cursor.byte()?;
        let source = match kind & !1 {
            0 if kind == 0 => return Ok(Record::Directory),
            0 => return Ok(Record::Symlink(self.cursor.text(MAX_TARGET)?)),
            2 => Source::Copy { base: Base::Same },
            4 => Source::Copy { base: self.base()? },
            6 => Source::Patch { base: Base::Same, size: self.cursor.number()?, frame: self.cursor.number()? },
            8 => Source::Patch { base: self.base()?, size: self.cursor.number()?, frame: self.cursor.number()? },
            10 => Source::Data { size: self.cursor.number()?, frame: self.cursor.number()? },
            _ => return Err(self.cursor.malformed("a node has an unknown kind")),
        };
        Ok(Record::File { executable: kind & 1 == 1, source })
    }

    fn base(&mut self) -> Result<Base<'a>, BundleError> {
        let place = usize::try_from(self.cursor.number()?).ok();
        let path = place.and_then(|place| self.bases.get(place));
        let path = path.ok_or_else(|| self.cursor.malformed("a base is not in the table"))?;
        Ok(Base::Other { path, name: self.cursor.text(MAX_TARGET)? })
    }
}

/// Why a record is refused.
enum Fault {
    Bundle(BundleError),
    Tree(TreeError),
}

impl From<BundleError> for Fault {
    fn from(error: BundleError) -> Self {
        Self::Bundle(error)
    }
}

impl From<TreeError> for Fault {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

fn renames(cursor: &mut Cursor, limits: Limits) -> Result<Renames, BundleError> {
    let count = cursor.number()?;
    limits.check_renames(count)?;
    let mut pairs: Vec<(StoreHash, StoreHash)> = Vec::new();
    for _ in 0..count {
        let old = hash(cursor)?;
        if pairs.last().is_some_and(|(last, _)| *last >= old) {
            return Err(cursor.malformed("renames are out of order"));
        }
        pairs.push((old, hash(cursor)?));
    }
    Ok(Renames::new(pairs)?)
}

fn hash(cursor: &mut Cursor) -> Result<StoreHash, BundleError> {
    let text = std::str::from_utf8(cursor.bytes(32)?).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| cursor.malformed("a rename is no hash of a store path"))
}

fn bases(cursor: &mut Cursor, limits: Limits) -> Result<Vec<StorePath>, BundleError> {
    let count = cursor.number()?;
    limits.check_bases(count)?;
    let mut bases = Vec::new();
    for _ in 0..count {
        bases.push(store_path(cursor)?);
    }
    Ok(bases)
}

fn store_path(cursor: &mut Cursor) -> Result<StorePath, BundleError> {
    let text = std::str::from_utf8(cursor.text(MAX_NAME)?).ok();
    let path = text.and_then(|text| StorePath::from_base_name(text).ok());
    path.ok_or_else(|| cursor.malformed("a text is no store path"))
}

/// One path, whose frames begin at `begin`.
fn span<'a>(cursor: &mut Cursor<'a>, bases: &'a [StorePath], begin: u64) -> Result<Span, BundleError> {
    let store_path = store_path(cursor)?;
    let base = match cursor.number()? {
        0 => None,
        place => match usize::try_from(place - 1) {
            Ok(base) if base < bases.len() => Some(base),
            _ => return Err(cursor.malformed("a path is paired with none of the table")),
        },
    };
    let mut records = Records { cursor: *cursor, bases, shape: Shape::new(base.is_some()) };
    let mut end = begin;
    loop {
        match records.step() {
            Ok(None) => break,
            Ok(Some(record)) => {
                let past = end.checked_add(record.frame());
                end = past.ok_or_else(|| records.cursor.malformed("the frames are longer than any file"))?;
            }
            Err(Fault::Bundle(error)) => return Err(error),
            Err(Fault::Tree(problem)) => return Err(BundleError::Tree { path: store_path, problem }),
        }
    }
    let span = Span { store_path, base, records: cursor.at(), frames: begin..end };
    *cursor = records.cursor;
    Ok(span)
}
