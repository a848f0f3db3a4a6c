#![no_main]

#[path = "../../../crates/menu-generator/tests/parse_back.rs"]
#[allow(dead_code, unused_imports)]
mod parse_back;

use boot_model::{KernelParameter, Label};
use libfuzzer_sys::{Corpus, fuzz_target};
use parse_back::common::Draft;

// Every renderer, of a machine's own menu and of one to choose a role from: lines with the title of both roles, the label of the one
// generation and the label of that one's specialisation; all that follow are parameters of the kernel. What can't be published is no
// input.
fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(bytes) else { return Corpus::Reject };
    let mut lines = text.split('\n').map(str::to_owned);
    let [Some(title), Some(label), Some(special)] = [(); 3].map(|()| lines.next()) else { return Corpus::Reject };
    let parameters: Vec<_> = lines.collect();
    if ![&title, &label, &special].iter().all(|text| text.parse::<Label>().is_ok())
        || !parameters.iter().all(|text| text.parse::<KernelParameter>().is_ok())
    {
        return Corpus::Reject;
    }
    let site = parse_back::site(&title);
    let mut draft = Draft { label, ..Draft::new(8, 'a', "2026-11-20T14:03:00Z") };
    draft.specialisations.push(("special".to_owned(), special, parameters.clone()));
    draft.parameters = parameters;
    parse_back::publish(&site, &draft);
    parse_back::check(&site);
    Corpus::Keep
});
