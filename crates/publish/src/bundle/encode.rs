//! One path of a bundle: its tree, and for each file the shortest way from the old one.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Mutex;

use boot_model::StorePath;
use nix_format::bundle::{Base, MAX_PATCHED, Record, Source};
use nix_format::renames::Renames;

use super::patch;
use super::unpacked::{FileAt, Step, Unpacked};

/// A patch that leaves this much of a file or less is not compared with compressing the file alone.
const CLEARLY_SMALLER: usize = 4;

/// Two files that have more than this together are patched one pair at a time: zstd needs several times their size.
const LARGE: u64 = 16 << 20;

/// A path's tree, each file with its source.
#[derive(Debug)]
pub(super) struct Encoded {
    nodes: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    Directory,
    Entry(Vec<u8>),
    Symlink(Vec<u8>),
    EndOfDirectory,
    File { executable: bool, base: Option<Like>, kind: Kind },
}

/// The file that another takes after.
#[derive(Debug, Clone)]
enum Like {
    SameName,
    Named(Vec<u8>),
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Copy,
    Patch { size: u64, frame: u64 },
    Data { size: u64, frame: u64 },
}

/// What encoding needs besides the paths.
pub(super) struct Encoder<'a> {
    pub(super) renames: &'a Renames,
    pub(super) large: &'a Mutex<()>,
}

impl Encoder<'_> {
    /// Writes the frames of `new` to `out`, in the order of its records.
    pub(super) fn encode(&self, old: &mut Unpacked, new: &mut Unpacked, out: &mut impl Write) -> io::Result<Encoded> {
        let likenesses = Likenesses::of(old);
        let mut nodes = Vec::with_capacity(new.steps().len());
        for at in 0..new.steps().len() {
            let node = match &new.steps()[at] {
                Step::Directory => Node::Directory,
                Step::Entry(name) => Node::Entry(name.clone()),
                Step::Symlink(target) => Node::Symlink(target.clone()),
                Step::EndOfDirectory => Node::EndOfDirectory,
                Step::File(file) => {
                    let file = file.clone();
                    let base = likenesses.find(&file.name);
                    let kind = match &base {
                        Some(base) => self.file(old, base, new, &file, out)?,
                        None => data(new, &file, out)?,
                    };
                    let like =
                        base.map(|base| if base.name == file.name { Like::SameName } else { Like::Named(base.name) });
                    Node::File { executable: file.executable, base: like, kind }
                }
            };
            nodes.push(node);
        }
        Ok(Encoded { nodes })
    }

    fn file(
        &self,
        old: &mut Unpacked,
        base: &FileAt,
        new: &mut Unpacked,
        file: &FileAt,
        out: &mut impl Write,
    ) -> io::Result<Kind> {
        if base.size > MAX_PATCHED || file.size > MAX_PATCHED {
            return match base.size == file.size && same(self.renames.reading(old.reader(base)), new.reader(file))? {
                true => Ok(Kind::Copy),
                false => data(new, file, out),
            };
        }
        let _turn = (base.size + file.size > LARGE).then(|| self.large.lock().expect("nothing panics in its turn"));
        let mut renamed = old.contents(base)?;
        self.renames.apply(&mut renamed);
        let contents = new.contents(file)?;
        if renamed == contents {
            return Ok(Kind::Copy);
        }
        let patched = patch::patch(&renamed, &contents)?;
        if patched.len() > contents.len() / CLEARLY_SMALLER {
            let plain = patch::data(&contents)?;
            if plain.len() <= patched.len() {
                out.write_all(&plain)?;
                return Ok(Kind::Data { size: file.size, frame: plain.len() as u64 });
            }
        }
        out.write_all(&patched)?;
        Ok(Kind::Patch { size: file.size, frame: patched.len() as u64 })
    }
}

impl Encoded {
    /// The records; `base` is the path that it is paired with.
    pub(super) fn records<'a>(&'a self, base: &'a StorePath) -> impl Iterator<Item = Record<'a>> {
        self.nodes.iter().map(move |node| match node {
            Node::Directory => Record::Directory,
            Node::Entry(name) => Record::Entry(name),
            Node::Symlink(target) => Record::Symlink(target),
            Node::EndOfDirectory => Record::EndOfDirectory,
            Node::File { executable, base: like, kind } => {
                let base = match like {
                    None | Some(Like::SameName) => Base::Same,
                    Some(Like::Named(name)) => Base::Other { path: base, name },
                };
                let source = match *kind {
                    Kind::Copy => Source::Copy { base },
                    Kind::Patch { size, frame } => Source::Patch { base, size, frame },
                    Kind::Data { size, frame } => Source::Data { size, frame },
                };
                Record::File { executable: *executable, source }
            }
        })
    }
}

fn data(new: &mut Unpacked, file: &FileAt, out: &mut impl Write) -> io::Result<Kind> {
    let frame = match file.size <= MAX_PATCHED {
        true => {
            let frame = patch::data(&new.contents(file)?)?;
            out.write_all(&frame)?;
            frame.len() as u64
        }
        false => patch::stream(new.reader(file), file.size, out)?,
    };
    Ok(Kind::Data { size: file.size, frame })
}

fn same(mut one: impl Read, mut other: impl Read) -> io::Result<bool> {
    let mut buffers = [vec![0; 1 << 20], vec![0; 1 << 20]];
    loop {
        let [first, second] = &mut buffers;
        let filled = fill(&mut one, first)?;
        if filled != fill(&mut other, second)? || first[..filled] != second[..filled] {
            return Ok(false);
        }
        if filled == 0 {
            return Ok(true);
        }
    }
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// The files of an old path by what a new one may be called.
struct Likenesses {
    by_name: HashMap<Vec<u8>, FileAt>,
    by_key: HashMap<Vec<u8>, FileAt>,
}

impl Likenesses {
    fn of(old: &Unpacked) -> Self {
        let by_name = old.files().map(|file| (file.name.clone(), file.clone())).collect();
        let by_key = old.files().map(|file| (without_version(&file.name), file.clone())).collect();
        Self { by_name, by_key }
    }

    fn find(&self, name: &[u8]) -> Option<FileAt> {
        self.by_name.get(name).or_else(|| self.by_key.get(&without_version(name))).cloned()
    }
}

/// The name without digits and dots: `lib/modules/6.1.0-55-amd64/x.ko` and `libssl.so.3.0.17` are called likewise in the next release.
fn without_version(name: &[u8]) -> Vec<u8> {
    name.iter().copied().filter(|byte| !byte.is_ascii_digit() && *byte != b'.').collect()
}
