//! The lines of a role's menu: `42  2026-11-20  NixOS 26.05.20261118.abc1234  Linux 6.12.58 *`, in columns.

use boot_model::generation::{Entry, Generation};

use crate::display::COLUMNS;

/// One entry and how the menu shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) generation: &'a Generation,
    pub(crate) entry: &'a Entry,
    /// Whether it is what the menu boots unasked.
    pub(crate) default: bool,
}

/// How wide the columns of one menu are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns {
    number: usize,
    version: usize,
    /// Two generations of the menu are of one day: the date alone does not tell them apart.
    time: bool,
}

impl Columns {
    pub(crate) fn fitting(rows: &[Row<'_>]) -> Self {
        let number = rows.iter().map(|row| row.generation.id.number().to_string().len()).max().unwrap_or(1);
        let version = rows.iter().map(|row| version_and_kernel(row.entry).0.chars().count()).max().unwrap_or(0);
        let same_day = |a: &Row<'_>, b: &Row<'_>| {
            a.generation.id != b.generation.id && a.generation.date.date() == b.generation.date.date()
        };
        let time = rows.iter().zip(rows.iter().skip(1)).any(|(a, b)| same_day(a, b));
        Self { number, version, time }
    }

    /// The line. Where it would be too long, the version gives way, then everything but the number.
    pub(crate) fn label(self, row: Row<'_>) -> String {
        let Columns { number: width, time, .. } = self;
        let stamp = row.generation.date.to_string();
        let date = if time { stamp[..16].replace('T', " ") } else { stamp[..10].to_owned() };
        let head = format!("{:>width$}  {date}  ", row.generation.id.number());
        let (version, kernel) = version_and_kernel(row.entry);
        let mut tail = kernel.map(|kernel| format!("  Linux {kernel}")).unwrap_or_default();
        if let Some(name) = &row.entry.specialisation {
            tail += &format!("  [{name}]");
        }
        tail += if row.default { " *" } else { "" };

        let room = COLUMNS.saturating_sub(head.len() + tail.chars().count());
        let version = shorten(&version, room);
        // The tail stands in a column of its own as long as that pushes nothing out.
        let column = self.version.min(room);
        format!("{head}{version:<column$}{tail}").trim_end().to_owned()
    }
}

/// `NixOS 26.05.20261118.abc1234 (Linux 6.12.58)` says both; NixOS writes labels like this (nixos/modules/system/activation).
fn version_and_kernel(entry: &Entry) -> (String, Option<String>) {
    let label = entry.label.as_str().trim();
    let split = label.strip_suffix(')').and_then(|label| label.rsplit_once(" (Linux "));
    let named = entry.kernel_version.as_ref().map(|version| version.as_str().to_owned());
    match split {
        Some((version, kernel)) => (version.to_owned(), named.or_else(|| Some(kernel.to_owned()))),
        None => (label.to_owned(), named),
    }
}

fn shorten(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(2)).collect();
    kept + &".."[..columns.min(2)]
}
