use boot_model::generation::Generation;
use boot_model::{GenerationId, GenerationRef, RoleName};
use publish::Source;
use serde_json::{Value, json};
use service::Failure;

use crate::output::{Output, bytes};
use crate::site::Site;

/// One role as it is on disk.
struct Listed {
    role: RoleName,
    source: Result<Option<Source>, String>,
    default: Option<GenerationId>,
    generations: Vec<(GenerationRef, Result<Generation, String>)>,
}

/// Reads descriptions only; whether the bytes behind them are right is what `verify` tells.
pub(crate) fn list(site: &Site, output: Output) -> Result<(), Failure> {
    let mut roles = Vec::new();
    for role in publish::roles(&site.layout)? {
        let references =
            publish::published_ids(&site.layout, &role)?.into_iter().map(|id| GenerationRef { role: role.clone(), id });
        let described = references.map(|reference| {
            let generation = publish::read_generation(&site.layout, &reference).map_err(|error| error.to_string());
            (reference, generation)
        });
        roles.push(Listed {
            generations: described.collect(),
            source: Source::of(&site.layout, &role).map_err(|error| error.to_string()),
            default: publish::default_of(&site.layout, &role),
            role,
        });
    }
    let text = || match roles.is_empty() {
        true => "nothing is published yet; `rookery publish <role> <toplevel>` does\n".to_owned(),
        false => roles.iter().map(Listed::text).collect::<Vec<_>>().join("\n"),
    };
    output.answer(text, || json!({ "roles": roles.iter().map(Listed::json).collect::<Vec<_>>() }))
}

pub(crate) fn show(site: &Site, output: Output, generation: &str) -> Result<(), Failure> {
    let reference = site.generation(generation)?;
    let described = publish::read_generation(&site.layout, &reference)?;
    let is_default = publish::default_of(&site.layout, &reference.role) == Some(reference.id);
    output.answer(
        || show_text(&described, is_default),
        || {
            let mut json = json!(described);
            json["default"] = is_default.into();
            json
        },
    )
}

impl Listed {
    fn text(&self) -> String {
        let source = match &self.source {
            Ok(Some(source)) => source.to_string(),
            Ok(None) => "no source yet".to_owned(),
            Err(problem) => problem.clone(),
        };
        let mut text = format!("{} ({source})\n", self.role);
        for (reference, generation) in &self.generations {
            let mark = if Some(reference.id) == self.default { '*' } else { ' ' };
            text += &match generation {
                Ok(generation) => {
                    format!("  {mark} {}  {}  {}\n", reference.id, generation.date.date(), generation.system().label)
                }
                Err(problem) => format!("  ! {}  {problem}\n", reference.id),
            };
        }
        text
    }

    fn json(&self) -> Value {
        let generations = self.generations.iter().map(|(reference, generation)| match generation {
            Ok(generation) => json!({
                "generation": reference,
                "date": generation.date,
                "label": generation.system().label,
                "kernel-version": generation.system().kernel_version,
                "toplevel": generation.system().toplevel,
                "specialisations": generation.entries.iter().filter_map(|e| e.specialisation.as_ref()).collect::<Vec<_>>(),
                "closure": generation.closure,
                "default": Some(reference.id) == self.default,
            }),
            Err(problem) => json!({ "generation": reference, "problem": problem }),
        });
        json!({
            "role": self.role,
            "source": self.source.as_ref().ok().and_then(Option::as_ref).map(ToString::to_string),
            "default": self.default,
            "generations": generations.collect::<Vec<_>>(),
        })
    }
}

fn show_text(generation: &Generation, is_default: bool) -> String {
    let mark = if is_default { "  (default)" } else { "" };
    let closure = generation.closure;
    let mut text = format!(
        "{}{mark}\n  date       {}\n  for        {}\n  closure    {} paths, {} unpacked, {} to fetch at most\n",
        generation.reference(),
        generation.date,
        generation.architecture,
        closure.paths,
        bytes(closure.nar_size),
        bytes(closure.file_size),
    );
    for entry in &generation.entries {
        let name = entry.specialisation.as_ref().map_or("system".to_owned(), |name| format!("specialisation {name}"));
        let parameters: Vec<&str> = entry.kernel_parameters.iter().map(|p| p.as_str()).collect();
        text += &format!(
            "  {name}\n    label    {}\n    toplevel {}\n    kernel   {}{}\n    initrd   {}\n    line     {}\n",
            entry.label,
            entry.toplevel,
            entry.kernel,
            entry.kernel_version.as_ref().map_or_else(String::new, |version| format!("  (Linux {version})")),
            entry.initrd,
            parameters.join(" "),
        );
    }
    text
}
