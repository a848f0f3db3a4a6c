use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use boot_model::{GenerationId, GenerationRef, RoleName};
use config::Config;
use generations::Layout;
use nix_format::signature::{PublicKeys, SecretKey};
use publish::published_ids;
use service::Failure;

use crate::arguments::Arguments;

/// What every verb needs of the configuration.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) layout: Layout,
    pub(crate) secret_key_file: PathBuf,
    pub(crate) compression_level: i32,
    trusted: PublicKeys,
}

impl Site {
    /// Reads the configuration. Without one, `--state` is enough: the defaults then hold for the rest.
    pub(crate) fn load(arguments: &Arguments) -> Result<Self, Failure> {
        let file = arguments.config.as_deref().unwrap_or(Path::new(config::DEFAULT_FILE));
        let needless = arguments.config.is_none() && arguments.state.is_some() && !file.exists();
        let config = if needless { None } else { Some(config::load(file).map_err(Failure::configuration)?) };
        let (state, publish) = match config {
            Some(Config { state_directory, publish, .. }) => (Some(state_directory), publish),
            None => (None, config::Publish::default()),
        };
        let Some(state) = arguments.state.clone().or(state) else {
            return Err(Failure::usage("give the state directory with --state"));
        };
        let trusted = publish.trusted_public_keys.iter().map(|key| key.parse()).collect::<Result<_, _>>();
        Ok(Self {
            layout: Layout::new(state),
            secret_key_file: arguments.secret_key.clone().unwrap_or(publish.secret_key_file),
            compression_level: publish.compression_level.into(),
            trusted: trusted.map_err(|error| {
                Failure::configuration(format!("{}: publish.trusted-public-keys: {error}", file.display()))
            })?,
        })
    }

    /// The key that signs.
    pub(crate) fn secret_key(&self) -> Result<SecretKey, Failure> {
        let file = self.secret_key_file.display();
        match fs::read_to_string(&self.secret_key_file) {
            Ok(text) => text.parse().map_err(|error| Failure::configuration(format!("{file}: {error}"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::configuration(format!(
                "there is no secret key in {file}; make one with `rookery keys generate <name>`"
            ))),
            Err(error) => Err(Failure::configuration(format!("cannot read the secret key {file}: {error}"))),
        }
    }

    /// The keys whose signatures count: the public half of the secret one where it can be read, and those configured.
    pub(crate) fn public_keys(&self) -> Result<PublicKeys, Failure> {
        let own = if self.secret_key_file.exists() { Some(self.secret_key()?.public_key()) } else { None };
        Ok(own.into_iter().chain(self.trusted.iter().cloned()).collect())
    }

    /// The published generation that an admin means by `lab/42-9f3k2xq1` or `lab/42`.
    pub(crate) fn generation(&self, text: &str) -> Result<GenerationRef, Failure> {
        let (role, id) = text.split_once('/').ok_or_else(|| {
            Failure::usage(format!("{text:?} is no generation: write <role>/<id>, as `rookery list` shows it"))
        })?;
        self.generation_of(&role.parse().map_err(Failure::usage)?, id)
    }

    /// Likewise, with the role apart.
    pub(crate) fn generation_of(&self, role: &RoleName, text: &str) -> Result<GenerationRef, Failure> {
        let reference = |id| GenerationRef { role: role.clone(), id };
        if let Ok(id) = text.parse::<GenerationId>() {
            return Ok(reference(id));
        }
        let number: u32 = text.parse().map_err(|_| {
            Failure::usage(format!("{text:?} is no generation: write <number>-<8 characters>, or the number alone"))
        })?;
        let numbered = |id: &GenerationId| id.number() == number;
        let mut ids = published_ids(&self.layout, role)?.into_iter().filter(numbered);
        match (ids.next(), ids.next()) {
            (Some(id), None) => Ok(reference(id)),
            (Some(one), Some(other)) => {
                Err(Failure::usage(format!("{role} has {one} and {other}; name one of them in full")))
            }
            (None, _) => {
                Err(Failure::runtime(format!("{role} has no generation {number}; `rookery list` shows what there is")))
            }
        }
    }
}
