//! The chosen generation's description: where it comes from, and why it may be believed.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use boot_model::{
    GenerationRef, StorePath,
    generation::{Generation, InitPath},
};
use nix_format::{detached::Document, signature::PublicKeys};

use crate::{Exit, Failure, backoff::Backoff, console, http, http::HttpError};

/// What the menu put on the kernel command line. Not to be trusted.
pub(super) struct Chosen {
    pub(super) generation: GenerationRef,
    pub(super) init: InitPath,
    pub(super) server: SocketAddrV4,
}

/// A description that a trusted key has signed and that is the one chosen.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub(super) generation: Generation,
    pub(super) json: String,
    pub(super) signature: String,
    pub(super) init: InitPath,
}

/// Why a description is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Distrust {
    #[error("generation {generation} is not signed by a key of this initrd: {cause}; publish it with the site's key")]
    Signature { generation: GenerationRef, cause: String },
    #[error("generation {generation} is signed but not understood: {cause}")]
    Content { generation: GenerationRef, cause: String },
    #[error("the server gave generation {given} where {asked} was asked for; somebody mixes up generations")]
    Other { asked: GenerationRef, given: GenerationRef },
    #[error("generation {generation} has no entry that starts {init}; the menu or the kernel command line was changed")]
    Init { generation: GenerationRef, init: InitPath },
}

impl From<Distrust> for Failure {
    fn from(error: Distrust) -> Self {
        Self::new(Exit::Refused, error)
    }
}

/// Larger than any description: some entries, and a digest for each kernel and initrd.
const MAX_JSON: u64 = 1 << 20;
const MAX_SIGNATURE: u64 = 16 << 10;
/// One request; the whole of it is a few kilobytes.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Chosen {
    /// Gets description and signature, and does not give up before `patience` is over. Of a description that is `known` already
    /// the signature is not asked for again.
    pub(super) fn download(&self, known: Option<&Signed>, patience: Duration) -> Result<(String, String), Failure> {
        let url = format!("http://{}/generations/{}/generation.json", self.server, self.generation);
        let begun = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            let error = match Self::download_once(&url, known) {
                Ok(both) => return Ok(both),
                Err(error) => error,
            };
            let waited = begun.elapsed();
            if let Some(sentence) = self.hopeless(&error, waited, patience) {
                return Err(Failure::new(Exit::Unavailable, sentence));
            }
            let delay = backoff.next_delay(crate::backoff::random()).min(patience.saturating_sub(waited));
            console::say(&format!("rookery: {error}; trying again in {:.1} s", delay.as_secs_f64()));
            std::thread::sleep(delay);
        }
    }

    fn download_once(url: &str, known: Option<&Signed>) -> Result<(String, String), HttpError> {
        // Bytes that are no text have no good signature either: what is replaced here makes verification fail.
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let json = text(http::get(url, MAX_JSON, TIMEOUT)?);
        if let Some(known) = known.filter(|known| known.json == json) {
            return Ok((json, known.signature.clone()));
        }
        let signature = http::get(&format!("{url}.sig"), MAX_SIGNATURE, TIMEOUT)?;
        Ok((json, text(signature)))
    }

    /// Why there is no point in asking again, if there is none.
    fn hopeless(&self, error: &HttpError, waited: Duration, patience: Duration) -> Option<String> {
        let generation = &self.generation;
        match error {
            HttpError::Status { status: 404, .. } => {
                Some(format!("the server does not publish generation {generation} (any more); choose another"))
            }
            HttpError::Status { .. } if !error.is_temporary() => Some(format!(
                "{error}: it refuses to give generation {generation}, and would again; check that this is Rookery's server and \
                 look into its log, then boot again"
            )),
            _ if waited < patience => None,
            _ => {
                let waited = console::span(waited);
                Some(format!("{error} (tried for {waited}); check the server and the cable, then boot again"))
            }
        }
    }

    /// Believes a description as [`believe`] does, and only if `init=` is one of its entries.
    pub(super) fn verify(&self, json: String, signature: String, keys: &PublicKeys) -> Result<Signed, Distrust> {
        let generation = believe(&json, &signature, &self.generation, keys)?;
        if generation.entry_for(&self.init).is_none() {
            return Err(Distrust::Init { generation: self.generation.clone(), init: self.init.clone() });
        }
        Ok(Signed { generation, json, signature, init: self.init.clone() })
    }
}

/// Believes a description only if a trusted key signed exactly these bytes, and they are those of the generation asked for.
pub(super) fn believe(
    json: &str,
    signature: &str,
    asked: &GenerationRef,
    keys: &PublicKeys,
) -> Result<Generation, Distrust> {
    Document::Generation
        .verify(json.as_bytes(), signature, keys)
        .map_err(|error| Distrust::Signature { generation: asked.clone(), cause: error.to_string() })?;
    let generation = Generation::from_json(json.as_bytes())
        .map_err(|error| Distrust::Content { generation: asked.clone(), cause: error.to_string() })?;
    if generation.reference() != *asked {
        return Err(Distrust::Other { asked: asked.clone(), given: generation.reference() });
    }
    Ok(generation)
}

impl Signed {
    /// What must be here to run the chosen entry: the system, which the profile names, and the specialisation if one was chosen.
    pub(super) fn toplevels(&self) -> Vec<StorePath> {
        let mut wanted = vec![self.generation.system().toplevel.clone()];
        let entry = self.generation.entry_for(&self.init).map(|entry| entry.toplevel.clone());
        wanted.extend(entry.filter(|toplevel| *toplevel != wanted[0]));
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_of_waiting_that_was_none() {
        let init = "/nix/store/9f3k2xq1v8h7m6n5p4s3r2w1z0y9x8c7-nixos/init".parse().unwrap();
        let (generation, server) = ("lab/42-9f3k2xq1".parse().unwrap(), "10.77.0.1:8080".parse().unwrap());
        let chosen = Chosen { generation, init, server };
        let patience = Duration::from_secs(900);
        let url = || "http://10.77.0.1:8080/generations/lab/42-9f3k2xq1/generation.json".to_owned();
        for status in [301, 400, 403] {
            let error = HttpError::Status { url: url(), status };
            let sentence = chosen.hopeless(&error, Duration::ZERO, patience).unwrap();
            assert!(sentence.contains(&status.to_string()) && sentence.contains("refuses"), "{sentence}");
            assert!(!sentence.contains("tried for") && !sentence.contains("cable"), "{sentence}");
        }
        for error in
            [HttpError::Status { url: url(), status: 503 }, HttpError::Unreachable { url: url(), cause: String::new() }]
        {
            assert_eq!(chosen.hopeless(&error, Duration::from_secs(899), patience), None);
            let sentence = chosen.hopeless(&error, Duration::from_secs(901), patience).unwrap();
            assert!(sentence.contains("tried for 15 min 1 s") && sentence.contains("cable"), "{sentence}");
        }
    }
}
