//! Tests that cargo runs.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use super::{Context, Tally, Test};
use crate::system::{NewerNix, Work};
use crate::{Error, Result, Workspace, units};

/// Their integration tests are the contract of the generations directory.
const CONTRACT: [&str; 3] = ["generations", "publish", "rookery"];

/// Their integration tests use real clients.
const CLIENTS: [&str; 3] = ["dhcpd", "tftpd", "nar-cache"];

pub(super) fn unit() -> Vec<Test> {
    let elsewhere = || CONTRACT.iter().chain(&CLIENTS);
    let mut workspace = words("test --workspace --quiet");
    let mut rest = words("test --lib --bins --quiet");
    for package in elsewhere() {
        workspace.extend(words(&format!("--exclude {package}")));
        rest.extend(words(&format!("-p {package}")));
    }
    vec![
        step("fmt", words("fmt --all --check")),
        step("clippy", words("clippy --workspace --all-targets --quiet -- -D warnings")),
        step("doc", words("doc --workspace --no-deps --quiet")),
        tests("workspace", workspace),
        tests("services", rest),
        Test::new("deny", deny),
    ]
}

pub(super) fn contract() -> Vec<Test> {
    let mut tests: Vec<Test> = CONTRACT.map(integration_tests).into();
    tests.push(Test::new("units", |context| units::check(&context.lab(0)?, context.workspace)));
    tests
}

pub(super) fn clients() -> Vec<Test> {
    CLIENTS.map(integration_tests).into()
}

/// A package's tests of its own, against the programs of others: all Nixes among them.
fn integration_tests(package: &'static str) -> Test {
    let arguments = words(&format!("test -p {package} --test * --quiet"));
    let run = move |context: &Context<'_>| count_tests(context, &arguments, Some(&newer_nix(context.workspace)?));
    Test { name: package, run: Box::new(run) }
}

/// The Nix of the next Debian, beside the one that is installed: fetched once, then found.
fn newer_nix(workspace: &Workspace) -> Result<NewerNix> {
    NewerNix::obtain(&Work::at(&workspace.logs("systems"))?)
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// A run of cargo that is one check.
fn step(name: &'static str, arguments: Vec<String>) -> Test {
    Test::new(name, move |context| cargo(context, &arguments, None))
}

/// A run of `cargo test` that counts each test.
fn tests(name: &'static str, arguments: Vec<String>) -> Test {
    Test { name, run: Box::new(move |context: &Context<'_>| count_tests(context, &arguments, None)) }
}

fn count_tests(context: &Context<'_>, arguments: &[String], newer_nix: Option<&NewerNix>) -> Result<Tally> {
    // Without --no-fail-fast the crates after a failure would not be counted.
    let arguments = [arguments, &["--no-fail-fast".to_owned()]].concat();
    let outcome = cargo(context, &arguments, newer_nix);
    let printed = fs::read_to_string(context.log()).map_err(Error::io("reading what cargo printed"))?;
    let tally = count(&printed);
    match outcome {
        Ok(()) if tally.passed > 0 => Ok(tally),
        Ok(()) => Err(Error::Wrong("no test ran".into())),
        Err(_) if tally.failed > 0 => Ok(tally),
        Err(error) => Err(error),
    }
}

/// Where cargo-deny is installed, it checks the same rules by its own means.
fn deny(context: &Context<'_>) -> Result<()> {
    let installed =
        Command::new("cargo").args(["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        // tests/layers.rs has looked at directions, licences and duplicates.
        return Ok(());
    }
    cargo(context, &words("deny check bans licenses sources"), None)
}

/// Runs cargo with everything that it and the tests print in this test's log.
fn cargo(context: &Context<'_>, arguments: &[String], newer_nix: Option<&NewerNix>) -> Result<()> {
    fs::create_dir_all(&context.logs).map_err(Error::io(format!("creating {}", context.logs.display())))?;
    let file = File::create(context.log()).map_err(Error::io("creating a log"))?;
    let both = file.try_clone().map_err(Error::io("creating a log"))?;
    let status = Command::new("cargo")
        .args(arguments)
        .current_dir(context.workspace.root())
        .env("RUSTDOCFLAGS", "-D warnings")
        // Real clients and servers of others that a test needs are installed here: their absence is a failure.
        .env("ROOKERY_REQUIRE_PEERS", "1")
        .envs(newer_nix.map(|nix| ("ROOKERY_NIX226", nix.directory().to_owned())))
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(both)
        .status()
        .map_err(Error::io("running cargo"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Command { command: format!("cargo {}", arguments.join(" ")), status, output: String::new() })
}

/// Adds up lines like `test result: FAILED. 22 passed; 1 failed; 0 ignored; ...`.
fn count(printed: &str) -> Tally {
    let mut sum = Tally::default();
    for line in printed.lines() {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            continue;
        };
        let number = |word: &str| {
            let part = counts.split("; ").find_map(|part| part.strip_suffix(word)?.trim().parse().ok());
            part.unwrap_or(0)
        };
        sum += Tally { passed: number("passed"), failed: number("failed") };
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_add_up() {
        let printed = "test a ... ok\n\
             test result: ok. 22 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.20s\n\
             test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.0s\n";
        assert_eq!(count(printed), Tally { passed: 25, failed: 2 });
        assert_eq!(count("error: could not compile"), Tally::default());
    }
}
