//! From the Depends of packages to the acyclic references of store paths.

use std::collections::{BTreeMap, BTreeSet};

use super::control::Stanza;

/// Which package refers to which: the edges of Depends, every alternative and virtual package resolved among those at hand.
#[derive(Debug)]
pub(super) struct Graph(BTreeMap<String, BTreeSet<String>>);

/// A package with what it refers to. In an ordered list, those stand before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ordered {
    /// The package.
    pub(super) name: String,
    /// What it refers to, sorted.
    pub(super) deps: Vec<String>,
}

impl Graph {
    /// Of several alternatives the first that is among `stanzas`, or is provided by one of them, counts: that is how apt chose. A
    /// relation with none is dropped; apt has made sure that it is not needed.
    pub(super) fn new(stanzas: &[Stanza]) -> Self {
        let names: BTreeSet<&str> = stanzas.iter().map(|stanza| stanza.name.as_str()).collect();
        let mut provider: BTreeMap<&str, &str> = BTreeMap::new();
        for stanza in stanzas {
            for provided in &stanza.provides {
                provider.entry(provided).or_insert(&stanza.name);
            }
        }
        let chosen = |alternatives: &Vec<String>| {
            alternatives
                .iter()
                .find_map(|name| names.get(name.as_str()).or_else(|| provider.get(name.as_str())).copied())
        };
        let edges = |stanza: &Stanza| {
            let targets = stanza.depends.iter().filter_map(chosen).filter(|target| *target != stanza.name);
            targets.map(str::to_owned).collect()
        };
        Self(stanzas.iter().map(|stanza| (stanza.name.clone(), edges(stanza))).collect())
    }

    /// Everything that `roots` lead to, themselves included, without `omitted` and what only those lead to.
    pub(super) fn reachable(&self, roots: &[String], omitted: &BTreeSet<String>) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&String> = roots.iter().collect();
        while let Some(name) = open.pop() {
            let Some(targets) = self.0.get(name) else { continue };
            if !omitted.contains(name) && reached.insert(name.clone()) {
                open.extend(targets);
            }
        }
        reached
    }

    /// The packages of `subset`, each behind what it refers to. Store paths cannot refer to each other in a circle, packages can
    /// (libc6 and libgcc-s1 do): the edge that closes a circle is left out. The same graph always gives the same list.
    pub(super) fn ordered(&self, subset: &BTreeSet<String>) -> Vec<Ordered> {
        let mut walk =
            Walk { graph: self, subset, entered: BTreeSet::new(), listed: BTreeSet::new(), list: Vec::new() };
        // Everything refers to libc6, so it begins: its own circle is cut at its own edge.
        for name in subset.get("libc6").into_iter().chain(subset) {
            walk.visit(name);
        }
        walk.list
    }
}

struct Walk<'a> {
    graph: &'a Graph,
    subset: &'a BTreeSet<String>,
    entered: BTreeSet<&'a str>,
    listed: BTreeSet<&'a str>,
    list: Vec<Ordered>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, name: &'a str) {
        if !self.entered.insert(name) {
            return;
        }
        let targets: Vec<&'a String> =
            self.graph.0[name].iter().filter(|target| self.subset.contains(*target)).collect();
        for target in &targets {
            self.visit(target);
        }
        // What was entered but is not listed yet lies on the way from the root to here: an edge to it closes a circle.
        let deps = targets.into_iter().filter(|target| self.listed.contains(target.as_str())).cloned().collect();
        self.list.push(Ordered { name: name.to_owned(), deps });
        self.listed.insert(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(name: &str, depends: &[&[&str]], provides: &[&str]) -> Stanza {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        Stanza {
            name: name.into(),
            version: "1".into(),
            architecture: "amd64".into(),
            depends: depends.iter().map(|alternatives| owned(alternatives)).collect(),
            provides: owned(provides),
        }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn alternatives_and_virtual_packages_are_resolved_among_those_at_hand() {
        let graph = Graph::new(&[
            stanza("app", &[&["absent", "logind"], &["awk"], &["nowhere"]], &[]),
            stanza("systemd", &[], &["logind"]),
            stanza("mawk", &[&["awk"]], &["awk"]),
        ]);
        assert_eq!(graph.0["app"], set(&["mawk", "systemd"]));
        assert_eq!(graph.0["mawk"], set(&[]), "a package is no dependency of its own");
    }

    #[test]
    fn what_only_omitted_packages_need_goes_with_them() {
        let graph = Graph::new(&[
            stanza("app", &[&["debconf"], &["libc6"]], &[]),
            stanza("debconf", &[&["perl-base"], &["libc6"]], &[]),
            stanza("perl-base", &[], &[]),
            stanza("libc6", &[], &[]),
        ]);
        assert_eq!(graph.reachable(&["app".into()], &set(&["debconf"])), set(&["app", "libc6"]));
        assert_eq!(graph.reachable(&["app".into(), "unknown".into()], &set(&[])).len(), 4);
    }

    #[test]
    fn references_point_backwards_and_circles_are_cut_once() {
        let graph = Graph::new(&[
            stanza("a", &[&["b"], &["libc6"]], &[]),
            stanza("b", &[&["c"]], &[]),
            stanza("c", &[&["a"]], &[]),
            stanza("libc6", &[&["libgcc-s1"]], &[]),
            stanza("libgcc-s1", &[&["libc6"]], &[]),
        ]);
        let list = graph.ordered(&set(&["a", "b", "c", "libc6", "libgcc-s1"]));
        let shown: Vec<String> = list.iter().map(|p| format!("{} <- {}", p.name, p.deps.join(" "))).collect();
        assert_eq!(shown, ["libgcc-s1 <- ", "libc6 <- libgcc-s1", "c <- ", "b <- c", "a <- b libc6"]);
    }

    #[test]
    fn packages_outside_the_subset_are_not_referred_to() {
        let graph = Graph::new(&[stanza("a", &[&["b"]], &[]), stanza("b", &[], &[])]);
        assert_eq!(graph.ordered(&set(&["a"])), [Ordered { name: "a".into(), deps: vec![] }]);
    }
}
