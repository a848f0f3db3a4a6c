//! What `apt-cache show` prints: stanzas of Debian's control format, and their relations (Debian Policy 5.1 and 7.1).

/// The fields of one binary package that a closure needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stanza {
    /// `Package`.
    pub(super) name: String,
    /// `Version`, as written.
    pub(super) version: String,
    /// `Architecture`.
    pub(super) architecture: String,
    /// `Pre-Depends` and `Depends`: each inner list holds alternatives, the preferred one first; names only.
    pub(super) depends: Vec<Vec<String>>,
    /// `Provides`: names only.
    pub(super) provides: Vec<String>,
}

impl Stanza {
    /// All stanzas that name a package and its version; fields of no interest and continuation lines are passed over.
    pub(super) fn parse_all(text: &str) -> Vec<Self> {
        text.split("\n\n").filter_map(Self::parse).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |wanted: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':').map(str::trim))
                .unwrap_or_default()
        };
        let (name, version) = (field("Package"), field("Version"));
        if name.is_empty() || version.is_empty() {
            return None;
        }
        let mut depends = relations(field("Pre-Depends"));
        depends.extend(relations(field("Depends")));
        Some(Self {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: field("Architecture").to_owned(),
            depends,
            provides: relations(field("Provides")).into_iter().flatten().collect(),
        })
    }

    /// The name under which apt keeps the package: a colon of the version is written as `%3a`.
    pub(super) fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }
}

/// `a (>= 1) | b, c:any [amd64]` → `[[a, b], [c]]`.
fn relations(text: &str) -> Vec<Vec<String>> {
    let alternatives = |relation: &str| relation.split('|').map(bare_name).filter(|name| !name.is_empty()).collect();
    text.split(',').map(alternatives).filter(|names: &Vec<String>| !names.is_empty()).collect()
}

fn bare_name(alternative: &str) -> String {
    let end = |c: char| c.is_whitespace() || matches!(c, ':' | '(' | '[' | '<');
    alternative.trim().split(end).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_architectures_and_profiles_are_left_behind() {
        let names = relations("libc6 (>= 2.36), default-logind | logind, perl:any, a [amd64] , b(<< 2)|c <!nocheck>,");
        assert_eq!(names, [vec!["libc6"], vec!["default-logind", "logind"], vec!["perl"], vec!["a"], vec!["b", "c"]]);
        assert!(relations("").is_empty());
    }

    #[test]
    fn stanzas_of_apt_cache_show() {
        let text = "Package: passwd\nArchitecture: amd64\nVersion: 1:4.13+dfsg1-1\nDepends: libc6 (>= 2.36)\n\
                    Pre-Depends: libpam-modules\nProvides: shadow (= 4.13)\nDescription: change things\n Depends: not this\n\n\
                    Package: pure\nVersion: 1\nArchitecture: all\n\nN: a remark of apt\n";
        let stanzas = Stanza::parse_all(text);
        assert_eq!(stanzas.len(), 2);
        assert_eq!(stanzas[0].depends, [["libpam-modules"], ["libc6"]]);
        assert_eq!(stanzas[0].provides, ["shadow"]);
        assert_eq!(stanzas[0].file_name(), "passwd_1%3a4.13+dfsg1-1_amd64.deb");
        assert!(stanzas[1].depends.is_empty());
    }
}
