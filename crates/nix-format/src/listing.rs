//! What a NAR holds and where: the `.ls` file beside a narinfo, as `nix copy` with `write-nar-listing` writes it.

use std::collections::BTreeMap;

use serde::Serialize;

/// The tree of one NAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The store path itself.
    pub root: Node,
    /// Bytes of the whole NAR, uncompressed.
    pub nar_size: u64,
}

/// A file, a symbolic link or a directory. Names and targets are bytes, as on a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    Regular {
        /// Whether the owner may execute it; NARs know no other permission.
        executable: bool,
        /// Bytes of content.
        size: u64,
        /// Where the content begins in the uncompressed NAR.
        nar_offset: u64,
    },
    /// A symbolic link.
    Symlink {
        /// What it points to, unresolved.
        target: Vec<u8>,
    },
    /// A directory.
    Directory {
        /// Its entries by name.
        entries: BTreeMap<Vec<u8>, Node>,
    },
}

impl Listing {
    /// The content of the `.ls` file, byte for byte what Nix 2.8 writes; `None` if a name or target isn't UTF-8, which JSON
    /// can't hold (nothing needs the file; Nix itself never asks for it).
    pub fn to_json(&self) -> Option<String> {
        let root = json_node(&self.root)?;
        serde_json::to_string(&Json { version: 1, root }).ok()
    }
}

#[derive(Serialize)]
struct Json<'a> {
    version: u8,
    root: JsonNode<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
enum JsonNode<'a> {
    Regular {
        size: u64,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        executable: bool,
        nar_offset: u64,
    },
    Symlink {
        target: &'a str,
    },
    Directory {
        entries: BTreeMap<&'a str, JsonNode<'a>>,
    },
}

fn json_node(node: &Node) -> Option<JsonNode<'_>> {
    Some(match node {
        &Node::Regular { executable, size, nar_offset } => JsonNode::Regular { size, executable, nar_offset },
        Node::Symlink { target } => JsonNode::Symlink { target: std::str::from_utf8(target).ok()? },
        Node::Directory { entries } => {
            let entries = entries.iter().map(|(name, node)| Some((std::str::from_utf8(name).ok()?, json_node(node)?)));
            JsonNode::Directory { entries: entries.collect::<Option<_>>()? }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_as_nix_writes_it() {
        let entries = BTreeMap::from([
            (b"bin".to_vec(), Node::Regular { executable: true, size: 3, nar_offset: 232 }),
            (b"etc".to_vec(), Node::Regular { executable: false, size: 0, nar_offset: 480 }),
            (b"sh".to_vec(), Node::Symlink { target: b"bin".to_vec() }),
        ]);
        let listing = Listing { root: Node::Directory { entries }, nar_size: 1000 };
        assert_eq!(
            listing.to_json().unwrap(),
            concat!(
                r#"{"version":1,"root":{"type":"directory","entries":{"#,
                r#""bin":{"type":"regular","size":3,"executable":true,"narOffset":232},"#,
                r#""etc":{"type":"regular","size":0,"narOffset":480},"sh":{"type":"symlink","target":"bin"}}}}"#,
            )
        );
    }

    #[test]
    fn json_cannot_hold_a_name_that_is_not_utf_8() {
        let entries = BTreeMap::from([(vec![0xff], Node::Symlink { target: b"x".to_vec() })]);
        assert_eq!(Listing { root: Node::Directory { entries }, nar_size: 0 }.to_json(), None);
    }
}
