//! The client's side of an update bundle: which one to ask for, and how a path is rebuilt from it and from the old generation.
//!
//! Nothing in a bundle is trusted. What is rebuilt is hashed as a NAR on the way and compared with the signed narinfo; whatever goes
//! wrong, the path comes as its plain pack. Base files are opened below the store only and through no symbolic link.
//!
//! Memory: the index, 32 MiB at most, and before anything else is fetched its frame, too; what the index lists, which is no more than the
//! two generations have; for each worker a small patch, 4 MiB each for its base, its result and its frame; and instead, for
//! one worker at a time, a large patch with 48 MiB each. That a frame is no longer than one for its result can be, a little more than
//! the result, the index was checked for.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Read, Write},
    os::{fd::BorrowedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    sync::Mutex,
};

use boot_model::{GenerationRef, StorePath};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix_format::{
    bundle::{
        Base, BundleError, BundledPath, Head, Index, Limits, MAX_PATCHED, MAX_WINDOW_LOG, Record, Records, Source,
    },
    closure::Closure,
    nar::{self, Event, NarError, NodeWriter, Written},
    narinfo::NarInfo,
    renames::Renames,
};
use zstd::{stream::read::Decoder, zstd_safe};

use super::{
    Counters,
    plan::{Names, Task},
    tee::Tee,
    tree::Hasher,
    unpack::Tree,
};
use crate::fetch::{
    held::Held,
    manifest::Manifest,
    store::Store,
    stream::{Server, Stream, StreamError},
};

/// Why a bundle, or one path of it, is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum RebuildError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Nar(#[from] NarError),
    #[error(transparent)]
    File(#[from] io::Error),
    #[error("{0}")]
    Content(&'static str),
    #[error("zstd: {0}")]
    Zstd(&'static str),
}

/// A bundle that the server has, from a generation that this disk has.
#[derive(Debug)]
pub(super) struct Bundle {
    /// Where it leads from.
    pub(super) old: GenerationRef,
    url: String,
    length: u64,
    index: Index,
}

/// A bundle's paths by name, while a fetch goes on.
pub(super) struct Paths<'a> {
    bundle: &'a Bundle,
    paths: HashMap<&'a StorePath, BundledPath<'a>>,
    /// Held by the one worker that applies a large patch.
    large: Mutex<()>,
}

/// Generations asked about: the publisher makes bundles from the last few.
const MOST_ASKED: usize = 3;
/// Read at first, with which most indexes come whole.
const BEGINNING: u64 = 64 << 10;
/// Contents up to here are made in memory at once, larger ones pass through.
const SMALL: u64 = 4 << 20;
const CHUNK: usize = 256 << 10;

impl Bundle {
    /// The bundle from the newest generation on the disk for which the server has one, if it is smaller than the packs.
    /// `closure` is what is wanted, `tasks` what is missing of it.
    pub(super) fn find(
        server: &Server,
        store: &Store,
        wanted: &GenerationRef,
        closure: &Closure,
        tasks: &[Task],
    ) -> Option<Self> {
        let packs: u64 = tasks.iter().filter(|task| !task.in_the_way).map(|task| task.info.file_size).sum();
        if packs == 0 {
            return None;
        }
        let mut held = Held::all(store);
        held.retain(|held| held.role == wanted.role && held != wanted);
        held.sort_by_key(|held| std::cmp::Reverse(held.id));
        let names = Names::read(store);
        // Whether they are what was received need not be known: what is made of them is hashed.
        let held = held.into_iter().filter_map(|old| {
            let paths = Manifest::recorded(store, &old, &names)?.closure.paths().len();
            Some((old, Limits::between(paths, closure.paths().len())))
        });
        held.take(MOST_ASKED).find_map(|(old, limits)| {
            let url = format!("bundle/{}/{}..{}", wanted.role, old.id, wanted.id);
            let length = server.length_of(&url).filter(|length| *length < packs)?;
            Self::open(server, old, url, length, limits).ok()
        })
    }

    fn open(
        server: &Server,
        old: GenerationRef,
        url: String,
        length: u64,
        limits: Limits,
    ) -> Result<Self, RebuildError> {
        let mut beginning = server.range(&url, length, 0..length.min(BEGINNING)).read_all()?;
        let first = beginning.first_chunk().ok_or(RebuildError::Content("it is shorter than its head"))?;
        let head = Head::parse(first)?;
        let end = head.frames_begin();
        if end > length {
            return Err(RebuildError::Content("it is shorter than its index"));
        }
        if end > BEGINNING {
            beginning.extend(server.range(&url, length, BEGINNING..end).read_all()?);
        }
        let frame = beginning.get(Head::SIZE..end as usize).ok_or(RebuildError::Content("its index is cut off"))?;
        let raw = decompress(frame, &[], head.index_size().into())?;
        drop(beginning);
        let index = Index::parse(&head, raw, limits)?;
        if index.bundle_size() != length {
            return Err(RebuildError::Content("it has another length than its index says"));
        }
        Ok(Self { old, url, length, index })
    }

    /// Its paths, to be looked up by name.
    pub(super) fn paths(&self) -> Paths<'_> {
        let paths = self.index.paths().map(|path| (path.store_path(), path)).collect();
        Paths { bundle: self, paths, large: Mutex::new(()) }
    }
}

impl Paths<'_> {
    /// Rebuilds a path in the staging place. `None` if the bundle does not have it. What is left behind after an error is the
    /// caller's to remove.
    pub(super) fn rebuild(
        &self,
        server: &Server,
        store: &Store,
        info: &NarInfo,
        staging: BorrowedFd<'_>,
        counters: &Counters,
    ) -> Option<Result<(), RebuildError>> {
        let path = self.paths.get(&info.store_path)?;
        let mut rebuilding = Rebuilding {
            records: path.records(),
            base: path.base(),
            frames: server.range(&self.bundle.url, self.bundle.length, path.frames()),
            renames: self.bundle.index.renames(),
            store: store.paths(),
            tree: Tree::new(staging, info.store_path.base_name()),
            name: PathBuf::new(),
            left: info.nar_size,
            counters,
            large: &self.large,
        };
        let rebuilt = rebuilding.run(info);
        let taken = info.nar_size - rebuilding.left;
        Some(rebuilt.inspect_err(|_| counters.undo(taken)))
    }
}

/// One path that is being rebuilt.
struct Rebuilding<'a> {
    records: Records<'a>,
    base: Option<&'a StorePath>,
    frames: Stream<'a>,
    renames: &'a Renames,
    store: PathBuf,
    tree: Tree<'a>,
    /// Of the current node within the path.
    name: PathBuf,
    /// Bytes of contents that the path may still have.
    left: u64,
    counters: &'a Counters,
    large: &'a Mutex<()>,
}

impl Rebuilding<'_> {
    fn run(&mut self, info: &NarInfo) -> Result<(), RebuildError> {
        let mut hasher = Hasher::default();
        let mut out = BufWriter::with_capacity(64 << 10, &mut hasher);
        nar::write(&mut out, |node| self.node(node))?;
        out.flush()?;
        drop(out);
        if hasher.digest() != info.nar_hash {
            return Err(RebuildError::Content("what came out is not what was signed"));
        }
        Ok(())
    }

    fn node<W: Write>(&mut self, node: NodeWriter<'_, W>) -> Result<Written, RebuildError> {
        match self.records.next() {
            Some(Record::Directory) => {
                self.tree.event(Event::Directory)?;
                node.directory(|directory| {
                    loop {
                        match self.records.next() {
                            Some(Record::Entry(name)) => {
                                self.tree.event(Event::Entry(name))?;
                                self.name.push(Path::new(std::ffi::OsStr::from_bytes(name)));
                                directory.entry(name, |node| self.node(node))?;
                                self.name.pop();
                            }
                            Some(Record::EndOfDirectory) => return Ok(self.tree.event(Event::EndOfDirectory)?),
                            _ => return Err(RebuildError::Content("its records make no tree")),
                        }
                    }
                })
            }
            Some(Record::Symlink(target)) => {
                self.tree.event(Event::Symlink(target))?;
                Ok(node.symlink(target)?)
            }
            Some(Record::File { executable, source }) => self.file(node, executable, source),
            _ => Err(RebuildError::Content("its records make no tree")),
        }
    }

    fn file<W: Write>(
        &mut self,
        node: NodeWriter<'_, W>,
        executable: bool,
        source: Source<'_>,
    ) -> Result<Written, RebuildError> {
        match source {
            Source::Copy { base } => {
                let (mut file, size) = self.open_base(base)?;
                let renames = self.renames;
                if size > SMALL {
                    return self.pass_through(node, executable, size, renames.reading(file));
                }
                let mut contents = Vec::with_capacity(size as usize);
                file.read_to_end(&mut contents)?;
                renames.apply(&mut contents);
                self.whole(node, executable, &contents)
            }
            Source::Patch { base, size, frame } => {
                let (mut file, base_size) = self.open_base(base)?;
                if base_size > MAX_PATCHED {
                    return Err(RebuildError::Content("the base of a patch is too large"));
                }
                let lock = (size.max(base_size) > SMALL).then_some(self.large);
                let _one_at_a_time = lock.map(|lock| lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
                let mut prefix = Vec::with_capacity(base_size as usize);
                file.read_to_end(&mut prefix)?;
                self.renames.apply(&mut prefix);
                let contents = decompress(&self.read_frame(frame)?, &prefix, size)?;
                self.whole(node, executable, &contents)
            }
            Source::Data { size, frame } if size <= SMALL => {
                let contents = decompress(&self.read_frame(frame)?, &[], size)?;
                self.whole(node, executable, &contents)
            }
            Source::Data { size, frame } => {
                let nothing = Stream::nothing(&self.frames);
                let packed = std::mem::replace(&mut self.frames, nothing);
                let mut packed = io::BufReader::with_capacity(CHUNK, Reading(packed).take(frame));
                let mut decoder = Decoder::with_buffer(&mut packed)?.single_frame();
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                let written = self.pass_through(node, executable, size, decoder)?;
                io::copy(&mut packed, &mut io::sink())?;
                self.frames = packed.into_inner().into_inner().0;
                Ok(written)
            }
        }
    }

    /// Writes a file whose contents are in memory.
    fn whole<W: Write>(
        &mut self,
        node: NodeWriter<'_, W>,
        executable: bool,
        contents: &[u8],
    ) -> Result<Written, RebuildError> {
        let size = contents.len() as u64;
        self.tree.event(Event::File { executable, size })?;
        self.count(size)?;
        self.tree.event(Event::Contents(contents))?;
        self.tree.event(Event::EndOfFile)?;
        Ok(node.regular(executable, size, contents)?)
    }

    /// Writes a file as its contents come.
    fn pass_through<W: Write>(
        &mut self,
        node: NodeWriter<'_, W>,
        executable: bool,
        size: u64,
        contents: impl Read,
    ) -> Result<Written, RebuildError> {
        self.tree.event(Event::File { executable, size })?;
        self.count(size)?;
        let written = node.regular(executable, size, Tee::new(contents, &mut self.tree))?;
        self.tree.event(Event::EndOfFile)?;
        Ok(written)
    }

    fn count(&mut self, size: u64) -> Result<(), RebuildError> {
        let left = self.left.checked_sub(size);
        self.left = left.ok_or(RebuildError::Content("it is longer than its narinfo says"))?;
        self.counters.bytes(size);
        Ok(())
    }

    /// The file of the old generation, and its length.
    fn open_base(&self, base: Base<'_>) -> Result<(File, u64), RebuildError> {
        let (path, name) = match base {
            Base::Same => {
                let paired = self.base.ok_or(RebuildError::Content("it has no base"))?;
                (paired, self.name.as_path())
            }
            Base::Other { path, name } => (path, Path::new(std::ffi::OsStr::from_bytes(name))),
        };
        let mut file = PathBuf::from(path.base_name());
        if !name.as_os_str().is_empty() {
            file.push(name);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let store = File::open(&self.store)?;
        let how = OpenHow::new().flags(flags).resolve(resolve);
        let file: File = openat2(&store, &file, how).map_err(io::Error::from)?.into();
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(RebuildError::Content("a base is no file"));
        }
        Ok((file, metadata.len()))
    }

    fn read_frame(&mut self, length: u64) -> Result<Vec<u8>, RebuildError> {
        let mut frame = vec![0; usize::try_from(length).map_err(|_| RebuildError::Content("a frame is too long"))?];
        let mut filled = 0;
        while filled < frame.len() {
            match self.frames.read(&mut frame[filled..])? {
                0 => return Err(RebuildError::Content("its frames end too early")),
                read => filled += read,
            }
        }
        Ok(frame)
    }
}

/// One frame from memory to memory: exactly `size` bytes must come out, which the caller has bounded.
fn decompress(frame: &[u8], prefix: &[u8], size: u64) -> Result<Vec<u8>, RebuildError> {
    let size = usize::try_from(size).map_err(|_| RebuildError::Content("a file is too long"))?;
    let mut context = zstd_safe::DCtx::create();
    let failed = |code| RebuildError::Zstd(zstd_safe::get_error_name(code));
    context.ref_prefix(prefix).map_err(failed)?;
    let mut contents = Vec::with_capacity(size);
    context.decompress(&mut contents, frame).map_err(failed)?;
    if contents.len() != size {
        return Err(RebuildError::Content("a frame holds another length than its record says"));
    }
    Ok(contents)
}

/// A stream as a reader; its errors come back as others.
struct Reading<'a>(Stream<'a>);

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(io::Error::other)
    }
}
