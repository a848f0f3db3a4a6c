//! `report` and `bootif`: what stage 1 says through the agent.

use std::{fs, process::Output, time::Duration};

use boot_model::report::{Report, Status, Step};
use tempfile::TempDir;

use crate::{
    server::Server,
    support::{agent, said, text},
};

/// One machine, from power-on to power-off.
struct Boot {
    dir: TempDir,
}

impl Boot {
    fn from(server: &Server) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let line = format!("rookery.server={} BOOTIF=01-52-54-00-77-00-0a", server.address);
        fs::write(dir.path().join("cmdline"), line).unwrap();
        Self { dir }
    }

    fn run(&self, words: &[&str]) -> Output {
        let [line, run] = ["cmdline", "run"].map(|name| self.dir.path().join(name));
        agent(&[words, &["--cmdline", text(&line), "--run-dir", text(&run)]].concat())
    }

    fn report(&self, step: &str, status: &str) -> Option<i32> {
        self.run(&["report", "--step", step, "--status", status]).status.code()
    }
}

fn server() -> (TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path().to_owned());
    (dir, server)
}

#[test]
fn what_could_not_be_sent_goes_with_the_next_report_under_the_same_boot_id() {
    let (_dir, server) = server();
    let boot = Boot::from(&server);
    server.close_connections(usize::MAX);
    assert_eq!(boot.report("network", "started"), Some(69));
    assert_eq!(server.reports(), []);
    server.close_connections(0);
    assert_eq!(boot.report("network", "ok"), Some(0));
    assert_eq!(boot.report("mount", "failed"), Some(0));
    let reports = server.reports();
    let told: Vec<_> = reports.iter().map(|report| (report.step, report.status)).collect();
    assert_eq!(told, [(Step::Network, Status::Started), (Step::Network, Status::Ok), (Step::Mount, Status::Failed)]);
    assert!(reports.iter().all(|report| report.boot_id == reports[0].boot_id), "{reports:?}");

    assert_eq!(Boot::from(&server).report("network", "ok"), Some(0));
    assert_ne!(server.reports()[0].boot_id, reports[0].boot_id, "another boot");
}

#[test]
fn a_slow_server_costs_one_report_no_more_than_its_patience() {
    let (_dir, server) = server();
    let boot = Boot::from(&server);
    assert_eq!(boot.report("network", "started"), Some(0));
    let kept = server.reports().remove(0);
    let kept = |number: u32| Report { detail: Some(number.to_string()), ..kept.clone() };
    let lines: Vec<String> = (0..9).map(|number| serde_json::to_string(&kept(number)).unwrap()).collect();
    fs::write(boot.dir.path().join("run/unsent-reports"), lines.join("\n")).unwrap();

    // Each answer comes in time; all of them would take seven seconds.
    server.think(Duration::from_millis(700));
    assert_eq!(boot.report("network", "ok"), Some(69));
    let mut told = server.reports();
    assert!(told.len() < 9, "{} reports", told.len());
    server.think(Duration::ZERO);
    while boot.report("network", "ok") != Some(0) {}
    told.extend(server.reports());
    let mut details: Vec<String> = told.into_iter().filter_map(|report| report.detail).collect();
    details.dedup();
    assert_eq!(details, (0..9).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn without_a_server_on_the_command_line_there_is_nobody_to_tell() {
    let (_dir, server) = server();
    let boot = Boot::from(&server);
    fs::write(boot.dir.path().join("cmdline"), "quiet").unwrap();
    let output = boot.run(&["report", "--step", "network", "--status", "ok"]);
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains("no `rookery.server=`"), "{}", said(&output));
}

#[test]
fn a_card_that_is_not_there_is_waited_for_and_then_named() {
    let (_dir, server) = server();
    let output = Boot::from(&server).run(&["bootif", "--wait", "0"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("52:54:00:77:00:0a") && said(&output).contains("driver"), "{}", said(&output));
}
