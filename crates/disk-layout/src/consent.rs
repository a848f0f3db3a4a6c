//! Whether a consent to erase counts. Each one counts once for a disk, and the disk itself remembers which it has seen.

use std::collections::BTreeSet;

use boot_model::{EraseConsent, Nonce};

use crate::{
    DiskFacts, LayoutSpec, MetaRecord, Policy, Reason,
    mbr::Mbr,
    meta::{META_AT, META_BYTES, MOST_SPENT},
    ownership::Tables,
};

/// Why a consent is not honoured on this disk, or `None` if it is. The caller has compared the machine's card.
///
/// [`Policy::CreateIfBlankOrOurs`] lets it lay out a disk of ours anew, where what is to be kept stays; only [`Policy::Wipe`]
/// lets it erase everything, and the disks of others.
#[must_use]
pub fn objection(spec: &LayoutSpec, facts: &DiskFacts, consent: &EraseConsent) -> Option<Reason> {
    if spec.policy == Policy::RefuseOnly {
        return Some(Reason::Policy("a consent to erase is not heeded".to_owned()));
    }
    if facts.serial.as_deref() != Some(consent.serial.as_str()) {
        return Some(Reason::OtherDisk { consented: consent.serial.to_string(), found: facts.serial.clone() });
    }
    let spent = spent(facts);
    if spent.contains(&consent.nonce) {
        return Some(Reason::Spent(consent.nonce));
    }
    (spent.len() >= MOST_SPENT).then_some(Reason::ManySpent)
}

/// Every consent that this disk has seen honoured. The records are read where they would be, whatever the partition table says now: a
/// disk that was ours once remembers.
pub(crate) fn spent(facts: &DiskFacts) -> BTreeSet<Nonce> {
    let copies = [META_AT, META_AT + META_BYTES as u64];
    let records = copies.into_iter().filter_map(|at| MetaRecord::decode(facts.contents.slice(at, META_BYTES)?));
    records.flat_map(|record| record.spent).chain(claimed(facts)).collect()
}

/// The one that the unfinished laying out of this disk spends.
pub(crate) fn claimed(facts: &DiskFacts) -> Option<Nonce> {
    match Tables::read(facts).mbr {
        Some(Mbr::Claim(claim)) => claim.consent,
        _ => None,
    }
}
