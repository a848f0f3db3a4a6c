use boot_model::RoleName;
use publish::Roles;
use serde_json::json;
use service::Failure;

use crate::output::Output;
use crate::progress;
use crate::site::Site;

pub(crate) fn rollback(site: &Site, output: Output, role: &RoleName) -> Result<(), Failure> {
    let generation = roles(site).rollback(role)?;
    output.answer(|| format!("{role} boots {generation} from now on"), || json!({ "default": generation }))
}

pub(crate) fn set_default(site: &Site, output: Output, role: &RoleName, generation: &str) -> Result<(), Failure> {
    let generation = site.generation_of(role, generation)?;
    roles(site).set_default(&generation)?;
    output.answer(|| format!("{role} boots {generation} from now on"), || json!({ "default": generation }))
}

pub(crate) fn remove(site: &Site, output: Output, generation: &str) -> Result<(), Failure> {
    let generation = site.generation(generation)?;
    roles(site).remove(&generation)?;
    output.answer(|| format!("removed {generation}"), || json!({ "removed": generation }))
}

fn roles(site: &Site) -> Roles<'_> {
    Roles { layout: &site.layout, report: &progress::hear_waiting }
}
