//! What this disk has of the chosen generation, believed as what the server sends is: signed, and the one that was chosen.

use nix_format::signature::PublicKeys;

use super::{
    generation::{Chosen, Distrust, Signed},
    held::Held,
    manifest::Manifest,
    store::Store,
    transfer::{plan::Names, received::Received},
};

/// See the module's description.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) signed: Signed,
    pub(super) manifest: Manifest,
    /// All of its closure is here. A record alone does not say so: Nix' garbage collector takes paths and leaves it.
    pub(super) is_complete: bool,
}

impl Known {
    /// `None` if the disk has nothing that can be used. Only where it has, the log of receipts is looked at, and mended.
    pub(super) fn read(store: &Store, chosen: &Chosen, keys: &PublicKeys) -> Result<Option<Self>, Distrust> {
        let Some(Held { json, signature, closure }) = Held::read(store, &chosen.generation) else { return Ok(None) };
        let signed = chosen.verify(json, signature, keys)?;
        let Some(manifest) = Manifest::held(&closure, &signed.generation) else { return Ok(None) };
        let is_complete = Received::open(store).is_ok_and(|received| manifest.is_here(&Names::read(store), &received));
        Ok(Some(Self { signed, manifest, is_complete }))
    }
}
