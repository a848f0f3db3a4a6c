//! Reading: bytes are pushed in as they come, in pieces of any size, and events come out.

use super::error::{Expected, ReadError};
use super::{MAGIC, MAX_DEPTH, MAX_FILE, MAX_NAME, MAX_TARGET, is_entry_name, padding};

/// Parses one NAR that comes piece by piece.
///
/// It takes the one canonical form only, so whoever re-creates the tree re-creates the archive. It holds one name per open
/// directory and one string, 20 KiB in all, whatever lengths the archive claims.
#[derive(Debug)]
pub struct NarReader {
    place: Place,
    string: Buffer,
    /// Bytes taken so far.
    offset: u64,
    /// For each open directory the last entry's name; empty before the first.
    open: Vec<Vec<u8>>,
}

/// What an archive says next. An entry is followed by its node; a node is a directory, a file or a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A directory begins. Its entries follow, then [`Event::EndOfDirectory`].
    Directory,
    /// The name of the open directory's next entry: one component, neither `.` nor `..`, greater than the one before.
    Entry(&'a [u8]),
    /// A regular file begins. Its contents follow, then [`Event::EndOfFile`].
    File {
        /// Whether it may be executed.
        executable: bool,
        /// Bytes of its contents, at most [`MAX_FILE`].
        size: u64,
    },
    /// More of the file's contents; never empty.
    Contents(&'a [u8]),
    /// The file is whole.
    EndOfFile,
    /// A symbolic link; its target is not empty, has no NUL and at most [`MAX_TARGET`] bytes.
    Symlink(&'a [u8]),
    /// The directory is whole.
    EndOfDirectory,
}

impl NarReader {
    /// Begins at an archive's first byte.
    pub fn new() -> Self {
        const BEGIN: Place = Place::Words(&[MAGIC, b"(", b"type"], &Place::Kind);
        Self { place: BEGIN, string: Buffer::default(), offset: 0, open: Vec::new() }
    }

    /// Takes from the front of `input` what the next event needs. Call it again until it returns `None`, when `input` is
    /// empty; then with more input.
    ///
    /// # Errors
    /// [`ReadError`] if the bytes are no archive. The reader is of no use afterwards.
    pub fn next<'r, 'i: 'r>(&'r mut self, input: &mut &'i [u8]) -> Result<Option<Event<'r>>, ReadError> {
        let found = match self.advance(input) {
            Ok(found) => found,
            Err(error) => {
                self.place = Place::Broken;
                return Err(error);
            }
        };
        Ok(found.map(|found| match found {
            Found::Directory => Event::Directory,
            Found::Entry => Event::Entry(self.string.text()),
            Found::File { executable, size } => Event::File { executable, size },
            Found::Contents(contents) => Event::Contents(contents),
            Found::EndOfFile => Event::EndOfFile,
            Found::Symlink => Event::Symlink(self.string.text()),
            Found::EndOfDirectory => Event::EndOfDirectory,
        }))
    }

    /// Checks that the archive is whole; call it when no input is left.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] if it is not.
    pub fn finish(self) -> Result<(), ReadError> {
        match self.place {
            Place::End => Ok(()),
            _ => Err(ReadError::Truncated { offset: self.offset }),
        }
    }

    fn advance<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Found<'i>>, ReadError> {
        loop {
            let at = self.place;
            let complete = match at {
                Place::Words(..) | Place::Kind | Place::FileHead | Place::Target | Place::EntryOrEnd | Place::Name => {
                    self.take_string(at.longest(), input)?
                }
                Place::Size { .. } => self.take_length(input),
                Place::Contents { left: 1.., .. } | Place::Padding { left: 1.. } => !input.is_empty(),
                Place::Contents { .. } | Place::Padding { .. } | Place::EndOfFile | Place::EndOfNode => true,
                Place::End if input.is_empty() => false,
                Place::End => return Err(ReadError::Trailing { offset: self.offset }),
                Place::Broken => return Err(ReadError::Truncated { offset: self.offset }),
            };
            if !complete {
                return Ok(None);
            }
            if let Some(found) = self.accept(at, input)? {
                return Ok(Some(found));
            }
        }
    }

    /// Moves on from `at`, what it needs being there.
    fn accept<'i>(&mut self, at: Place, input: &mut &'i [u8]) -> Result<Option<Found<'i>>, ReadError> {
        match at {
            Place::Words(words, then) => self.word(words, then)?,
            Place::Kind => return self.kind(),
            Place::FileHead => self.file_head()?,
            Place::Size { executable } => {
                let size = self.file_size()?;
                self.place = Place::Contents { left: size, padding: padding(size) };
                return Ok(Some(Found::File { executable, size }));
            }
            Place::Contents { left: 0, padding } => self.place = Place::Padding { left: padding },
            Place::Contents { left, padding } => {
                let contents = self.take(usize::try_from(left).unwrap_or(usize::MAX), input);
                self.place = Place::Contents { left: left - contents.len() as u64, padding };
                return Ok(Some(Found::Contents(contents)));
            }
            Place::Padding { left: 0 } => self.place = Place::Words(&[b")"], &Place::EndOfFile),
            Place::Padding { left } => {
                let zeros = self.take(left, input);
                self.check_padding(zeros)?;
                self.place = Place::Padding { left: left - zeros.len() };
            }
            Place::EndOfFile => {
                self.place = Place::EndOfNode;
                return Ok(Some(Found::EndOfFile));
            }
            Place::Target => {
                self.check_target()?;
                self.place = Place::Words(&[b")"], &Place::EndOfNode);
                return Ok(Some(Found::Symlink));
            }
            Place::EntryOrEnd => return self.entry_or_end(),
            Place::Name => {
                self.check_name()?;
                self.place = Place::Words(&[b"node", b"(", b"type"], &Place::Kind);
                return Ok(Some(Found::Entry));
            }
            Place::EndOfNode if self.open.is_empty() => self.place = Place::End,
            Place::EndOfNode => self.place = Place::Words(&[b")"], &Place::EntryOrEnd),
            Place::End | Place::Broken => {}
        }
        Ok(None)
    }

    fn word(&mut self, words: &'static [&'static [u8]], then: &'static Place) -> Result<(), ReadError> {
        let Some((word, rest)) = words.split_first() else {
            self.place = *then;
            return Ok(());
        };
        if self.string.text() != *word {
            return Err(self.unexpected(Expected::Word(word)));
        }
        self.place = if rest.is_empty() { *then } else { Place::Words(rest, then) };
        Ok(())
    }

    fn kind(&mut self) -> Result<Option<Found<'static>>, ReadError> {
        match self.string.text() {
            b"regular" => self.place = Place::FileHead,
            b"symlink" => self.place = Place::Words(&[b"target"], &Place::Target),
            b"directory" if self.open.len() >= MAX_DEPTH => return Err(ReadError::Depth { offset: self.offset }),
            b"directory" => {
                self.open.push(Vec::new());
                self.place = Place::EntryOrEnd;
                return Ok(Some(Found::Directory));
            }
            _ => return Err(self.unexpected(Expected::Kind)),
        }
        Ok(None)
    }

    fn file_head(&mut self) -> Result<(), ReadError> {
        self.place = match self.string.text() {
            b"contents" => Place::Size { executable: false },
            b"executable" => Place::Words(&[b"", b"contents"], &Place::Size { executable: true }),
            _ => return Err(self.unexpected(Expected::FileHead)),
        };
        Ok(())
    }

    fn file_size(&self) -> Result<u64, ReadError> {
        match self.string.length() {
            size @ ..=MAX_FILE => Ok(size),
            length => Err(ReadError::TooLong { offset: self.offset - 8, length, longest: MAX_FILE }),
        }
    }

    fn entry_or_end(&mut self) -> Result<Option<Found<'static>>, ReadError> {
        match self.string.text() {
            b"entry" => self.place = Place::Words(&[b"(", b"name"], &Place::Name),
            b")" => {
                self.open.pop();
                self.place = Place::EndOfNode;
                return Ok(Some(Found::EndOfDirectory));
            }
            _ => return Err(self.unexpected(Expected::EntryOrEnd)),
        }
        Ok(None)
    }

    fn check_target(&self) -> Result<(), ReadError> {
        let target = self.string.text();
        if target.is_empty() || target.contains(&0) {
            return Err(ReadError::Target(lossy(target)));
        }
        Ok(())
    }

    fn check_name(&mut self) -> Result<(), ReadError> {
        let name = self.string.text();
        if !is_entry_name(name) {
            return Err(ReadError::Name(lossy(name)));
        }
        if let Some(last) = self.open.last_mut() {
            if last.as_slice() >= name {
                return Err(ReadError::Order { name: lossy(name), after: lossy(last) });
            }
            last.clear();
            last.extend_from_slice(name);
        }
        Ok(())
    }

    /// Checks bytes that were the last ones taken.
    fn check_padding(&self, zeros: &[u8]) -> Result<(), ReadError> {
        match zeros.iter().position(|&byte| byte != 0) {
            Some(place) => Err(ReadError::Padding { offset: self.offset - (zeros.len() - place) as u64 }),
            None => Ok(()),
        }
    }

    fn unexpected(&self, expected: Expected) -> ReadError {
        let found = self.string.text();
        let offset = self.offset - padded(found.len()) as u64 - 8;
        ReadError::Unexpected { offset, expected, found: lossy(found) }
    }

    /// Collects a length; whether it is whole.
    fn take_length(&mut self, input: &mut &[u8]) -> bool {
        self.string.begin();
        self.fill(8, input);
        self.string.whole = self.string.bytes.len() == 8;
        self.string.whole
    }

    /// Collects a string of at most `longest` bytes; whether it is whole.
    fn take_string(&mut self, longest: usize, input: &mut &[u8]) -> Result<bool, ReadError> {
        self.string.begin();
        self.fill(8, input);
        if self.string.bytes.len() < 8 {
            return Ok(false);
        }
        let length = self.string.length();
        let Some(length) = usize::try_from(length).ok().filter(|&length| length <= longest) else {
            let offset = self.offset - self.string.bytes.len() as u64;
            return Err(ReadError::TooLong { offset, length, longest: longest as u64 });
        };
        let whole = 8 + padded(length);
        self.fill(whole, input);
        if self.string.bytes.len() < whole {
            return Ok(false);
        }
        self.check_padding(&self.string.bytes[8 + length..])?;
        self.string.whole = true;
        Ok(true)
    }

    /// Brings the string, with its length and padding, to `whole` bytes as far as the input goes.
    fn fill(&mut self, whole: usize, input: &mut &[u8]) {
        let taken = self.take(whole.saturating_sub(self.string.bytes.len()), input);
        self.string.bytes.extend_from_slice(taken);
    }

    /// Takes `most` bytes off the front of `input`, or what there is.
    fn take<'i>(&mut self, most: usize, input: &mut &'i [u8]) -> &'i [u8] {
        let (taken, rest) = input.split_at(most.min(input.len()));
        *input = rest;
        self.offset += taken.len() as u64;
        taken
    }
}

impl Default for NarReader {
    fn default() -> Self {
        Self::new()
    }
}

/// What comes next in the grammar.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// These words, then another place.
    Words(&'static [&'static [u8]], &'static Place),
    Kind,
    FileHead,
    Size {
        executable: bool,
    },
    Contents {
        left: u64,
        padding: usize,
    },
    Padding {
        left: usize,
    },
    EndOfFile,
    Target,
    EntryOrEnd,
    Name,
    EndOfNode,
    End,
    /// The archive was refused.
    Broken,
}

impl Place {
    /// Bytes of the longest string that may stand here.
    fn longest(self) -> usize {
        match self {
            Self::Target => MAX_TARGET,
            Self::Name => MAX_NAME,
            _ => MAGIC.len(),
        }
    }
}

enum Found<'i> {
    Directory,
    Entry,
    File { executable: bool, size: u64 },
    Contents(&'i [u8]),
    EndOfFile,
    Symlink,
    EndOfDirectory,
}

/// One string as it stands in the archive, with length and padding.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Nothing is missing, so that the next byte belongs to the next string.
    whole: bool,
}

impl Buffer {
    fn begin(&mut self) {
        if std::mem::take(&mut self.whole) {
            self.bytes.clear();
        }
    }

    fn length(&self) -> u64 {
        self.bytes.first_chunk().copied().map_or(0, u64::from_le_bytes)
    }

    fn text(&self) -> &[u8] {
        let length = usize::try_from(self.length()).unwrap_or(0);
        self.bytes.get(8..).and_then(|bytes| bytes.get(..length)).unwrap_or_default()
    }
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(8)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
