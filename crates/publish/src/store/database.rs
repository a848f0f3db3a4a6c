//! Nix's database, read-only (schema: NixOS/nix src/libstore/schema.sql).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use boot_model::StorePath;
use nix_format::hash;
use rusqlite::{Connection, OpenFlags, Row};

use super::{PathInfo, StoreError};

/// The ids of everything that the JSON array ?1 of paths needs.
const CLOSURE: &str = "with recursive closure(id) as (
    select id from ValidPaths where path in (select value from json_each(?1))
    union select reference from Refs join closure on referrer = closure.id)";

/// The closure of `roots`. The outer error says that this database can't be used at all, the inner one that its content can't.
pub(super) fn closure(
    database: &Path,
    roots: &[StorePath],
) -> Result<Result<Vec<PathInfo>, StoreError>, rusqlite::Error> {
    // Never `immutable=1`: Nix may be writing this very moment, and SQLite would then read torn pages as good ones.
    let mut connection =
        Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    let roots = serde_json::Value::from_iter(roots.iter().map(StorePath::as_str)).to_string();

    // One transaction, so that both queries see the same state; short, for a long one would keep the WAL from shrinking.
    let transaction = connection.transaction()?;
    let mut references = BTreeMap::<i64, Vec<String>>::new();
    {
        let mut statement = transaction.prepare(&format!(
            "{CLOSURE} select Refs.referrer, target.path from closure
             join Refs on Refs.referrer = closure.id join ValidPaths target on target.id = Refs.reference"
        ))?;
        let mut rows = statement.query([&roots])?;
        while let Some(row) = rows.next()? {
            references.entry(row.get(0)?).or_default().push(row.get(1)?);
        }
    }
    let mut statement = transaction.prepare(&format!(
        "{CLOSURE} select ValidPaths.id, path, hash, narSize, deriver, sigs, ca from closure join ValidPaths using (id)"
    ))?;
    let rows = statement.query_map([&roots], |row| RawPath::read(row, &mut references))?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().map(RawPath::parse).collect())
}

struct RawPath {
    path: String,
    hash: String,
    nar_size: Option<u64>,
    deriver: Option<String>,
    signatures: Option<String>,
    content_address: Option<String>,
    references: Vec<String>,
}

impl RawPath {
    fn read(row: &Row<'_>, references: &mut BTreeMap<i64, Vec<String>>) -> rusqlite::Result<Self> {
        let id: i64 = row.get(0)?;
        Ok(Self {
            path: row.get(1)?,
            hash: row.get(2)?,
            nar_size: row.get::<_, Option<i64>>(3)?.and_then(|size| size.try_into().ok()),
            deriver: row.get(4)?,
            signatures: row.get(5)?,
            content_address: row.get(6)?,
            references: references.remove(&id).unwrap_or_default(),
        })
    }

    fn parse(self) -> Result<PathInfo, StoreError> {
        let odd = |problem: String| StoreError::Odd { path: self.path.clone(), problem };
        let mut references = self
            .references
            .iter()
            .map(|reference| reference.parse())
            .collect::<Result<Vec<StorePath>, _>>()
            .map_err(|error| odd(error.to_string()))?;
        references.sort();
        Ok(PathInfo {
            path: self.path.parse().map_err(|error| odd(format!("{error}")))?,
            nar_hash: hash::from_nix(&self.hash).map_err(|error| odd(error.to_string()))?,
            nar_size: self.nar_size.ok_or_else(|| odd("it has no NAR size".to_owned()))?,
            references,
            deriver: self.deriver.as_deref().and_then(|deriver| deriver.parse().ok()),
            // Another's signature that can't be read is no reason not to publish: ours is added.
            signatures: self.signatures.iter().flat_map(|all| all.split(' ')).flat_map(str::parse).collect(),
            content_address: self.content_address.filter(|address| !address.is_empty()),
        })
    }
}
