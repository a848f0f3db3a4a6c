//! A directory of Nix profiles: `<role>-<n>-link` for each generation, `<role>` for the one in force.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use boot_model::{RoleName, StorePath, Timestamp};

/// One role's profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Its generations by number; numbers have gaps after deletions and may be used again.
    pub(crate) links: BTreeMap<u32, Link>,
    /// The number that `<role>` points to.
    pub(crate) current: Option<u32>,
}

/// One generation of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) toplevel: StorePath,
    /// When the link was made.
    pub(crate) date: Timestamp,
}

/// Reads a directory of profiles: what it has, and what in it can't be followed. Other names in it (`per-user`, locks, links
/// half-made) are no profiles and nothing is said of them.
pub(crate) fn read(directory: &Path) -> io::Result<(BTreeMap<RoleName, Profile>, Vec<String>)> {
    let mut profiles = BTreeMap::<RoleName, Profile>::new();
    let mut problems = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let Some((role, number)) = parse_link_name(&name) else { continue };
        match read_link(&entry.path(), role) {
            Ok((role, link)) => {
                profiles.entry(role).or_default().links.insert(number, link);
            }
            // Deleted since the directory was listed.
            Err(_) if fs::symlink_metadata(entry.path()).is_err() => {}
            Err(problem) => problems.push(format!("{}: {problem}", entry.path().display())),
        }
    }
    for (role, profile) in &mut profiles {
        profile.current = read_current(&directory.join(role.as_str()), role);
    }
    problems.sort();
    Ok((profiles, problems))
}

/// `lab-2-42-link` is number 42 of `lab-2`.
fn parse_link_name(name: &str) -> Option<(&str, u32)> {
    let (role, number) = name.strip_suffix("-link")?.rsplit_once('-')?;
    let canonical = !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((role, number.parse().ok().filter(|_| canonical)?))
}

fn read_link(path: &Path, role: &str) -> Result<(RoleName, Link), String> {
    let role = role.parse().map_err(|error| format!("{error}"))?;
    let metadata = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    let target = fs::read_link(path).map_err(|error| error.to_string())?;
    let toplevel =
        target.to_str().unwrap_or_default().parse().map_err(|error| format!("it leads elsewhere: {error}"))?;
    let millis = metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000;
    Ok((role, Link { toplevel, date: Timestamp::from_unix_millis(millis.try_into().unwrap_or(0)) }))
}

fn read_current(path: &Path, role: &RoleName) -> Option<u32> {
    let target = fs::read_link(path).ok()?;
    let (named, number) = parse_link_name(target.file_name()?.to_str()?)?;
    (named == role.as_str()).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const A: &str = "/nix/store/00000000000000000000000000000001-a";

    #[test]
    fn names_of_links() {
        assert_eq!(parse_link_name("lab-42-link"), Some(("lab", 42)));
        assert_eq!(parse_link_name("lab-2-10-link"), Some(("lab-2", 10)));
        for other in ["lab", "lab-link", "lab-x-link", "lab-01-link", "lab-+1-link", "lab-1-link.tmp-7-8", "lab.lock"] {
            assert_eq!(parse_link_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_directory_of_profiles() {
        let directory = tempfile::tempdir().unwrap();
        let link = |target: &str, name: &str| symlink(target, directory.path().join(name)).unwrap();
        link(A, "lab-9-link");
        link(A, "lab-10-link");
        link("lab-9-link", "lab");
        link(A, "Lab-1-link");
        link("/etc", "pool-1-link");
        link("pool-1-link", "per-user");

        let (profiles, problems) = read(directory.path()).unwrap();
        let (role, profile) = profiles.first_key_value().unwrap();
        assert_eq!((role.as_str(), profiles.len()), ("lab", 1));
        assert_eq!(profile.links.keys().copied().collect::<Vec<_>>(), [9, 10]);
        assert_eq!(profile.current, Some(9));
        assert_eq!(problems.len(), 2);
        assert!(problems[0].contains("Lab-1-link: \"Lab\" is no role name"), "{problems:?}");
        assert!(problems[1].contains("pool-1-link: it leads elsewhere: \"/etc\" is no store path"), "{problems:?}");
    }
}
