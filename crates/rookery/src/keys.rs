use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix_format::signature::{KeyName, SecretKey};
use serde_json::json;
use service::Failure;

use crate::output::Output;
use crate::site::Site;

/// Makes the secret key, readable by its owner alone.
pub(crate) fn generate(site: &Site, output: Output, name: &KeyName) -> Result<(), Failure> {
    let path = &site.secret_key_file;
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::runtime(format!(
            "{} is there already, and clients trust it; move it away if you mean to replace it",
            path.display()
        )),
        _ => Failure::runtime(format!("cannot write the secret key {}: {error}", path.display())),
    };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| Failure::runtime(format!("no randomness from the system: {error}")))?;
    let key = SecretKey::from_seed(name.clone(), &seed);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(cannot)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(cannot)?;
    let written = file.write_all(format!("{}\n", key.to_secret_text()).as_bytes()).and_then(|()| file.sync_all());
    // The public half is about to go into initrds: the secret one must outlive a power cut, its name too.
    written.and_then(|()| File::open(directory)?.sync_all()).map_err(|error| {
        // Half a key would be in the way of the next attempt.
        let _ = fs::remove_file(path);
        cannot(error)
    })?;
    let public = key.public_key().to_string();
    output.answer(
        || format!("{public}\nThe secret half is in {}. Clients need the line above.", path.display()),
        || json!({ "public-key": public, "secret-key-file": path }),
    )
}

/// Prints the keys whose signatures count here.
pub(crate) fn show(site: &Site, output: Output) -> Result<(), Failure> {
    let keys: Vec<String> = site.public_keys()?.iter().map(ToString::to_string).collect();
    if keys.is_empty() {
        return Err(Failure::configuration(format!(
            "there is no key: {} does not exist (`rookery keys generate <name>`) and publish.trusted-public-keys is empty",
            site.secret_key_file.display()
        )));
    }
    output.answer(|| keys.join("\n"), || json!({ "public-keys": keys }))
}
