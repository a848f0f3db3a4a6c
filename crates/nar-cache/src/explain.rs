//! The verb `explain`: what the server would answer to a URL, from the same table and the same file.

use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;

use boot_model::MacAddr;
use generations::{CacheIndex, Layout, ServedNames, Snapshot};
use service::Failure;
use service::confined::Root;

use crate::blob::Blob;
use crate::name;
use crate::refusal::Refusal;
use crate::reply::{cache_control, content_type};

/// Who asks for what.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// The URL's path.
    pub(crate) path: &'a str,
    /// Our address that is asked.
    pub(crate) server: Ipv4Addr,
    /// The card that asks.
    pub(crate) mac: Option<MacAddr>,
}

/// Writes which file would be served, and how.
///
/// # Errors
/// Why nothing would be.
pub(crate) fn explain(layout: &Layout, question: &Question<'_>, out: &mut impl Write) -> Result<(), Failure> {
    let snapshot = generations::scan(layout, &Snapshot::default())?;
    let (index, problems) = CacheIndex::build(layout, &snapshot, &CacheIndex::default());
    for problem in snapshot.problems.iter().chain(&problems) {
        writeln!(out, "left out    {problem}")?;
    }
    let names = ServedNames::new(Arc::new(snapshot), Some(Arc::new(index)));
    writeln!(out, "asked at    {}", question.server)?;
    match question.mac {
        Some(mac) => writeln!(out, "asked from  {mac}")?,
        None => writeln!(out, "asked from  a card that is not known (--mac names one)")?,
    }
    let answer = || {
        let name = name::decode(question.path)?;
        let served = names.resolve(&name, question.server, question.mac)?;
        let blob = Blob::open(&Root::new(layout.root()), &served)?;
        Ok((served, blob))
    };
    let (served, blob) = answer().map_err(|refusal: Refusal| {
        Failure::runtime(format!("{} would be answered with {}: {refusal}", question.path, refusal.status()))
    })?;
    for path in served.candidates.iter().take_while(|path| **path != blob.path) {
        writeln!(out, "not there   {}", layout.root().join(path).display())?;
    }
    writeln!(out, "file        {}", layout.root().join(&blob.path).display())?;
    writeln!(out, "length      {} bytes", blob.len)?;
    writeln!(out, "type        {}", content_type(&served))?;
    writeln!(out, "tag         {}", blob.etag)?;
    writeln!(out, "caching     {}", cache_control(&served))?;
    Ok(())
}
