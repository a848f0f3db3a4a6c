//! Contents that go to two places: to whoever reads them, and into a file of the staging place.

use std::io::{self, Read};

use nix_format::nar::Event;

use super::unpack::Tree;

const CHUNK: usize = 256 << 10;

/// Hands contents on in any pieces, and writes them into the open file in large ones.
pub(super) struct Tee<'t, 's, R> {
    contents: R,
    tree: &'t mut Tree<'s>,
    chunk: Vec<u8>,
    done: usize,
    filled: usize,
}

impl<'t, 's, R: Read> Tee<'t, 's, R> {
    pub(super) fn new(contents: R, tree: &'t mut Tree<'s>) -> Self {
        Self { contents, tree, chunk: vec![0; CHUNK], done: 0, filled: 0 }
    }
}

impl<R: Read> Read for Tee<'_, '_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.done == self.filled {
            self.filled = self.contents.read(&mut self.chunk)?;
            self.done = 0;
            self.tree.event(Event::Contents(&self.chunk[..self.filled]))?;
        }
        let handed = out.len().min(self.filled - self.done);
        out[..handed].copy_from_slice(&self.chunk[self.done..self.done + handed]);
        self.done += handed;
        Ok(handed)
    }
}
