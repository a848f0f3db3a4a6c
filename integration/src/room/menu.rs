use boot_model::GenerationRef;

/// A pxelinux menu, as far as a person before the screen sees it: what can be chosen, in order, and what is chosen already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Menu {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    label: String,
    append: String,
    preselected: bool,
}

impl Menu {
    /// Reads a configuration. Lines that say nothing about entries are skipped.
    pub fn parse(text: &str) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        for line in text.lines() {
            let line = line.trim();
            let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
            match (keyword.to_ascii_uppercase().as_str(), entries.last_mut()) {
                ("LABEL", _) => {
                    entries.push(Entry { label: rest.to_owned(), append: String::new(), preselected: false });
                }
                ("APPEND", Some(entry)) => entry.append = rest.to_owned(),
                ("MENU", Some(entry)) if rest.eq_ignore_ascii_case("default") => entry.preselected = true,
                _ => {}
            }
        }
        Self { entries }
    }

    /// Where the generation itself stands (not one of its specialisations), counted from 0.
    pub fn position(&self, generation: &GenerationRef) -> Option<usize> {
        let parameter = format!("rookery.generation={generation}");
        let carries = |entry: &Entry| entry.append.split(' ').any(|word| word == parameter);
        self.entries.iter().position(carries)
    }

    /// Whether an entry gives the kernel a parameter that begins like this.
    pub fn gives(&self, parameter: &str) -> bool {
        self.entries.iter().any(|entry| entry.append.split(' ').any(|word| word.starts_with(parameter)))
    }

    /// The keys that move the selection to a generation and boot it.
    pub fn keys_to(&self, generation: &GenerationRef) -> Option<Vec<&'static str>> {
        let to = self.position(generation)?;
        let from = self.entries.iter().position(|entry| entry.preselected).unwrap_or(0);
        let key = if to > from { "down" } else { "up" };
        let mut keys = vec![key; to.abs_diff(from)];
        keys.push("ret");
        Some(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MENU: &str = "DEFAULT menu.c32\nMENU TITLE x\n\
        LABEL a\n  MENU LABEL 2\n  MENU DEFAULT\n  APPEND rookery.generation=lab/2-aaaaaaaa init=/x quiet\n\
        LABEL a-debug\n  APPEND rookery.generation=lab/2-aaaaaaaa init=/y\n\
        LABEL b\n  APPEND rookery.generation=lab/1-bbbbbbbb init=/z\n\
        LABEL local\n  LOCALBOOT 0\n";

    #[test]
    fn keys_go_from_the_preselected_entry() {
        let menu = Menu::parse(MENU);
        assert_eq!(menu.keys_to(&"lab/1-bbbbbbbb".parse().unwrap()).unwrap(), ["down", "down", "ret"]);
        assert_eq!(menu.keys_to(&"lab/2-aaaaaaaa".parse().unwrap()).unwrap(), ["ret"]);
        assert_eq!(menu.keys_to(&"lab/3-cccccccc".parse().unwrap()), None);
        let menu = Menu::parse(&MENU.replace("  MENU DEFAULT\n", "").replace("LABEL local", "LABEL l\nMENU DEFAULT"));
        assert_eq!(menu.keys_to(&"lab/1-bbbbbbbb".parse().unwrap()).unwrap(), ["up", "ret"]);
    }
}
