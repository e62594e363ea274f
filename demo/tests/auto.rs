//! The program as people start it: the automatic story holds, and nothing outlives a demo that is killed.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn demo() -> Command {
    Command::new(env!("CARGO_BIN_EXE_demo"))
}

#[test]
fn the_automatic_story_holds_and_is_told_as_json() {
    let ended = demo().args(["--auto", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert!(ended.status.success() && report["ok"] == true, "{report:#}");
    let steps = report["steps"].as_array().unwrap();
    assert!(
        steps.len() > 20 && steps.iter().all(|step| step["ok"] == true && step["ms"].is_number()),
        "{report:#}"
    );
    for measured in ["connect_cold_ms", "connect_running_ms", "consent_to_first_reading_ms", "revocation_ms"]
    {
        assert!(report["measured"][measured].as_f64().is_some_and(|ms| ms > 0.0), "{measured} in {report:#}");
    }
    for direction in ["latency_device_to_app", "latency_app_to_device"] {
        let latency = &report["measured"][direction];
        assert_eq!(latency["messages"], 1_000);
        assert!(
            latency["p50_ms"].as_f64() <= latency["p99_ms"].as_f64()
                && latency["p50_ms"].as_f64() > Some(0.0)
        );
    }
}

#[test]
fn children_die_with_a_demo_that_is_killed() {
    // Killed like this it cannot remove its folder; this one goes with the test.
    let folder = tempfile::tempdir().unwrap();
    let mut process =
        demo().env("TMPDIR", folder.path()).arg("--free-ports").stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    assert!(
        output.lines().any(|line| line.unwrap().contains("Open http://")),
        "the demo never says where to go"
    );
    let children = children(process.id());
    assert!(children.len() >= 7, "{children:?}");
    process.kill().unwrap();
    process.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while children.iter().any(|stat| stat.exists()) {
        assert!(Instant::now() < deadline, "children outlive the demo");
        std::thread::yield_now();
    }
}

/// Folders in `/proc` of the processes with this parent.
fn children(parent: u32) -> Vec<PathBuf> {
    let task = format!("/proc/{parent}/task/{parent}/children");
    let pids = std::fs::read_to_string(task).unwrap_or_default();
    pids.split_whitespace().map(|pid| PathBuf::from("/proc").join(pid)).collect()
}
