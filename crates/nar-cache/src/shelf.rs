//! Narinfos in memory: each client of a room asks for the same few thousand.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use boot_model::event::Content;
use hyper::body::Bytes;

use crate::blob::ETag;

/// Texts of small files that were read, each as long as the file is the one that was read. The memory is bounded.
#[derive(Debug)]
pub(crate) struct Shelf {
    root: PathBuf,
    texts: Mutex<Texts>,
}

#[derive(Debug, Default)]
struct Texts {
    by_path: HashMap<PathBuf, (ETag, Bytes)>,
    bytes: usize,
}

impl Shelf {
    /// An empty shelf for files beneath `root`.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), texts: Mutex::default() }
    }

    /// Keeps a narinfo that was read whole. When there is no room for more, all go, and what is asked for comes back.
    pub(crate) fn put(&self, path: &Path, etag: &ETag, text: &Bytes) {
        let bytes = text.len() + ENTRY;
        if bytes > MOST {
            return;
        }
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.bytes + bytes > MOST {
            *texts = Texts::default();
        }
        let old = texts.by_path.insert(path.to_owned(), (etag.clone(), text.clone()));
        texts.bytes += bytes;
        texts.bytes -= old.map_or(0, |(_, text)| text.len() + ENTRY);
    }

    /// The text of the file at `path`, if it is here and the file is still the same. It asks the file system for the stamp of a file
    /// that was read before, which is in memory there too, and so is for the reactor as well.
    pub(crate) fn find(&self, path: &Path) -> Option<(ETag, Bytes)> {
        let (etag, text) = self.texts.lock().unwrap_or_else(PoisonError::into_inner).by_path.get(path).cloned()?;
        let now = ETag::of(path, Content::Narinfo, &fs::metadata(self.root.join(path)).ok()?);
        (now == etag).then_some((etag, text))
    }
}

/// Bytes in all: narinfos have about a kilobyte.
const MOST: usize = 16 * 1024 * 1024;

/// What one costs besides its text, roughly.
const ENTRY: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(root: &Path, name: &str) -> ETag {
        ETag::of(Path::new(name), Content::Narinfo, &fs::metadata(root.join(name)).unwrap())
    }

    #[test]
    fn a_text_is_as_good_as_its_file() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a.narinfo");
        fs::write(&file, "one").unwrap();
        let shelf = Shelf::new(root.path());
        let name = Path::new("a.narinfo");
        assert_eq!(shelf.find(name), None);
        let etag = tag(root.path(), "a.narinfo");
        shelf.put(name, &etag, &Bytes::from_static(b"one"));
        assert_eq!(shelf.find(name), Some((etag, Bytes::from_static(b"one"))));
        fs::write(root.path().join("staged"), "two").unwrap();
        fs::rename(root.path().join("staged"), &file).unwrap();
        assert_eq!(shelf.find(name), None);
        fs::remove_file(&file).unwrap();
        assert_eq!(shelf.find(name), None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let root = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(root.path());
        let etag = ETag::of_name("x");
        let text = Bytes::from(vec![b'x'; MOST / 8]);
        for n in 0..100 {
            shelf.put(Path::new(&format!("{n}")), &etag, &text);
            shelf.put(Path::new(&format!("{n}")), &etag, &text);
            let texts = shelf.texts.lock().unwrap();
            assert_eq!(texts.bytes, texts.by_path.len() * (text.len() + ENTRY));
            assert!(texts.bytes <= MOST);
        }
        shelf.put(Path::new("large"), &etag, &Bytes::from(vec![0; MOST]));
        assert!(!shelf.texts.lock().unwrap().by_path.contains_key(Path::new("large")));
    }
}
