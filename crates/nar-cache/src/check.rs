//! The verb `check`: what would be served, and what is wrong with it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;

use config::Config;
use generations::{CacheIndex, Layout, Problem, Published, Snapshot};
use nix_format::closure::Closure;
use service::Failure;

/// Writes what would be served to `out`.
///
/// # Errors
/// If the directory can't be read, or something in it is published and can't be served.
pub(crate) fn check(config: &Config, out: &mut impl Write) -> Result<(), Failure> {
    for subnet in &config.subnets {
        writeln!(out, "listens at {}:{} ({})", subnet.address.address(), config.nar_cache.port, subnet.interface)?;
    }
    let layout = Layout::new(&config.state_directory);
    let snapshot = generations::scan(&layout, &Snapshot::default())?;
    let (index, unreadable) = CacheIndex::build(&layout, &snapshot, &CacheIndex::default());
    let mut problems: BTreeSet<Problem> = snapshot.problems.iter().cloned().chain(unreadable).collect();
    for (name, role) in &snapshot.roles {
        for published in &role.generations {
            let id = published.generation.id;
            let default = role.default_generation().is_some_and(|default| default.generation.id == id);
            let closure = &published.generation.closure;
            writeln!(
                out,
                "serves {name}/{id}: {} paths, {} bytes packed, {} unpacked{}",
                closure.paths,
                closure.file_size,
                closure.nar_size,
                if default { ", the default" } else { "" }
            )?;
            problems.extend(missing(&layout, published));
        }
    }
    writeln!(out, "store paths in all: {}", index.len())?;
    for problem in &problems {
        writeln!(out, "cannot serve {problem}")?;
    }
    service::checked(problems.len())
}

/// What of a generation's closure is not in the cache. Sizes are compared, digests are `rookery verify`'s business.
fn missing(layout: &Layout, published: &Published) -> Vec<Problem> {
    let manifest = layout.generation(&published.generation.reference()).join(Layout::CLOSURE_NAME);
    let Some(closure) = fs::read_to_string(manifest).ok().and_then(|text| text.parse::<Closure>().ok()) else {
        // Told already, when the index was built.
        return Vec::new();
    };
    let wanted = closure.paths().iter().flat_map(|info| {
        let narinfo = layout.cache().join(Layout::narinfo_name(info.store_path.hash()));
        [(narinfo, None), (layout.cache().join(&info.url), Some(info.file_size))]
    });
    let lacks = wanted.filter_map(|(path, size)| {
        let reason = match (fs::metadata(&path), size) {
            (Ok(file), Some(size)) if file.len() != size => format!("it has {} bytes of {size}", file.len()),
            (Ok(_), _) => return None,
            (Err(error), _) => error.to_string(),
        };
        Some(Problem { path, reason: format!("{reason}; publish {} again", published.generation.reference()) })
    });
    lacks.collect()
}
