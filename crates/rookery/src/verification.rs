use std::io::{self, IsTerminal as _};

use boot_model::GenerationRef;
use serde_json::json;
use service::Failure;

use crate::output::{Output, say};
use crate::site::Site;

pub(crate) fn verify(site: &Site, output: Output, what: Option<&str>) -> Result<(), Failure> {
    let keys = site.public_keys()?;
    if keys.is_empty() {
        return Err(Failure::configuration(format!(
            "no key to verify with: neither {} nor publish.trusted-public-keys has one",
            site.secret_key_file.display()
        )));
    }
    let generations = chosen(site, what)?;
    let shown = !output.json && io::stderr().is_terminal();
    let findings = publish::verify(&site.layout, &generations, &keys, |generation| {
        if shown {
            say(&format!("checking {generation}"));
        }
    });
    let text = || {
        let mut text: String =
            findings.iter().map(|finding| format!("{}: {}\n", finding.path.display(), finding.problem)).collect();
        if findings.is_empty() {
            text = format!("{} generations are as they were published\n", generations.len());
        }
        text
    };
    output.answer(text, || {
        let findings = findings.iter().map(|f| json!({ "path": f.path, "problem": f.problem })).collect::<Vec<_>>();
        json!({ "checked": generations, "findings": findings })
    })?;
    match findings.len() {
        0 => Ok(()),
        count => Err(Failure::runtime(format!(
            "{count} files are not as they were published; restore them, or delete them and publish again \
             (`rookery publish`, for a followed role `rookery follow --once`)"
        ))),
    }
}

fn chosen(site: &Site, what: Option<&str>) -> Result<Vec<GenerationRef>, Failure> {
    let generations = match what {
        None => publish::all_generations(&site.layout, None)?,
        Some(text) if text.contains('/') => vec![site.generation(text)?],
        Some(role) => publish::all_generations(&site.layout, Some(&role.parse().map_err(Failure::usage)?))?,
    };
    match (generations.is_empty(), what) {
        (true, Some(what)) => Err(Failure::runtime(format!("nothing is published as {what}"))),
        _ => Ok(generations),
    }
}
