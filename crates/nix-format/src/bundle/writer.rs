use std::collections::{HashMap, HashSet};

use boot_model::StorePath;

use super::MAX_INDEX;
use super::error::BundleError;
use super::record::{Base, Record, Shape, Source};
use super::wire::{put_number, put_text};
use crate::renames::Renames;

/// Makes an index, path by path.
#[derive(Debug)]
pub struct IndexWriter {
    renames: Renames,
    bases: Vec<StorePath>,
    places: HashMap<StorePath, u64>,
    written: HashSet<StorePath>,
    paths: Vec<u8>,
}

impl IndexWriter {
    /// Begins an index of a bundle that applies `renames` to every base.
    pub fn new(renames: Renames) -> Self {
        Self { renames, bases: Vec::new(), places: HashMap::new(), written: HashSet::new(), paths: Vec::new() }
    }

    /// Adds a path, paired with `base`; all it refers to must have been added before, if the bundle has it at all. Its frames
    /// go into the file in the order of its records, after those of the paths before.
    ///
    /// # Errors
    /// [`BundleError`] if the path stands there already or `records` make no tree. The index is then as before.
    pub fn path<'r>(
        &mut self,
        store_path: &StorePath,
        base: Option<&StorePath>,
        records: impl IntoIterator<Item = Record<'r>>,
    ) -> Result<(), BundleError> {
        if self.written.contains(store_path) {
            return Err(BundleError::Twice(store_path.clone()));
        }
        let begin = self.paths.len();
        put_text(&mut self.paths, store_path.base_name().as_bytes());
        let pair = base.map_or(0, |base| 1 + self.place(base));
        put_number(&mut self.paths, pair);
        let mut shape = Shape::new(base.is_some());
        let written = records.into_iter().try_for_each(|record| {
            shape.accept(&record)?;
            self.record(&record);
            Ok(())
        });
        if let Err(problem) = written.and_then(|()| shape.finish()) {
            self.paths.truncate(begin);
            return Err(BundleError::Tree { path: store_path.clone(), problem });
        }
        self.written.insert(store_path.clone());
        Ok(())
    }

    /// The index, uncompressed.
    ///
    /// # Errors
    /// [`BundleError::IndexSize`] if it is longer than [`MAX_INDEX`].
    pub fn finish(self) -> Result<Vec<u8>, BundleError> {
        let mut raw = Vec::with_capacity(self.paths.len() + 64 * (self.renames.pairs().len() + self.bases.len()) + 16);
        put_number(&mut raw, self.renames.pairs().len() as u64);
        for (old, new) in self.renames.pairs() {
            raw.extend_from_slice(old.as_str().as_bytes());
            raw.extend_from_slice(new.as_str().as_bytes());
        }
        put_number(&mut raw, self.bases.len() as u64);
        for base in &self.bases {
            put_text(&mut raw, base.base_name().as_bytes());
        }
        raw.extend_from_slice(&self.paths);
        if raw.len() > MAX_INDEX as usize {
            return Err(BundleError::IndexSize { index: raw.len() as u64, frame: 0 });
        }
        Ok(raw)
    }

    fn place(&mut self, base: &StorePath) -> u64 {
        if let Some(place) = self.places.get(base) {
            return *place;
        }
        let place = self.bases.len() as u64;
        self.bases.push(base.clone());
        self.places.insert(base.clone(), place);
        place
    }

    fn record(&mut self, record: &Record) {
        match *record {
            Record::Directory => self.paths.push(0),
            Record::EndOfDirectory => put_text(&mut self.paths, b""),
            Record::Entry(name) => put_text(&mut self.paths, name),
            Record::Symlink(target) => {
                self.paths.push(1);
                put_text(&mut self.paths, target);
            }
            Record::File { executable, source } => self.file(executable, source),
        }
    }

    fn file(&mut self, executable: bool, source: Source) {
        let (kind, base, sizes) = match source {
            Source::Copy { base } => (2, Some(base), None),
            Source::Patch { base, size, frame } => (6, Some(base), Some([size, frame])),
            Source::Data { size, frame } => (10, None, Some([size, frame])),
        };
        match base {
            None | Some(Base::Same) => self.paths.push(kind | u8::from(executable)),
            Some(Base::Other { path, name }) => {
                self.paths.push((kind + 2) | u8::from(executable));
                let place = self.place(path);
                put_number(&mut self.paths, place);
                put_text(&mut self.paths, name);
            }
        }
        sizes.into_iter().flatten().for_each(|size| put_number(&mut self.paths, size));
    }
}
