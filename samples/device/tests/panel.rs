//! The panel as a process with its thermostats as children.

#![allow(clippy::unwrap_used, reason = "what these expect is what they test")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::Value;

struct Panel {
    process: Child,
    page: String,
    floor: String,
    _dir: tempfile::TempDir,
}

/// Starts it on free ports and reads from its log where it listens.
fn panel() -> Panel {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("device.toml");
    let text = "listen = \"127.0.0.1:0\"\nfloor_listen = \"127.0.0.1:0\"\ndirectory = \"things\"\n";
    std::fs::write(&file, text).unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_device"))
        .args(["panel", "--config"])
        .arg(&file)
        .env("OAUTHING_LOG_FORMAT", "json")
        .env("OAUTHING_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(process.stderr.take().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    // Reads on, so that the panel never blocks on its log.
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if line["event"] == "panel_ready" {
                let url = |name: &str| format!("http://{}", line[name].as_str().unwrap());
                let _ = tell.send((url("page"), url("floor")));
            }
        }
    });
    let (page, floor) = told.recv_timeout(Duration::from_secs(20)).expect("the panel says where it listens");
    Panel { process, page, floor, _dir: dir }
}

impl Panel {
    async fn thermostats(&self) -> Vec<Value> {
        reqwest::get(format!("{}/thermostats.json", self.page)).await.unwrap().json().await.unwrap()
    }

    async fn until(&self, mut wanted: impl FnMut(&[Value]) -> bool) {
        let begun = Instant::now();
        loop {
            let now = self.thermostats().await;
            if wanted(&now) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{now:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Panel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let of: u32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            (of == parent).then_some(pid)
        })
        .collect()
}

#[tokio::test]
async fn a_process_each_one_more_on_request_and_none_left_behind() {
    let mut panel = panel();
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let alive =
        |now: &[Value], n: usize| now.len() == n && now.iter().all(|one| one["state"]["phase"] == "blank");
    panel.until(|now| alive(now, 2)).await;
    let made = http.post(format!("{}/make", panel.floor)).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    panel.until(|now| alive(now, 3)).await;
    let ids = |now: &[Value]| now.iter().map(|one| one["state"]["hardware_id"].clone()).collect::<Vec<_>>();
    let before = ids(&panel.thermostats().await);

    // A thermostat that dies comes back as the same one.
    let pids = children(panel.process.id());
    assert_eq!(pids.len(), 3);
    Command::new("kill").args(["-9", &pids[0].to_string()]).status().unwrap();
    panel.until(|now| now.iter().any(|one| one["state"].is_null())).await;
    panel.until(|now| alive(now, 3)).await;
    assert_eq!(ids(&panel.thermostats().await), before);

    let pids = children(panel.process.id());
    Command::new("kill").args(["-TERM", &panel.process.id().to_string()]).status().unwrap();
    assert!(panel.process.wait().unwrap().success());
    assert!(pids.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()), "{pids:?}");
}

#[tokio::test]
async fn only_the_own_page_presses_a_button() {
    let panel = panel();
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let press = |n: u32, site: &'static str| {
        http.post(format!("{}/thermostats/{n}/press", panel.page)).header("sec-fetch-site", site).send()
    };
    assert_eq!(press(1, "cross-site").await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(press(1, "same-origin").await.unwrap().status(), StatusCode::SEE_OTHER);
    assert_eq!(press(9, "same-origin").await.unwrap().status(), StatusCode::NOT_FOUND);
    let page = reqwest::get(&panel.page).await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    let page = page.text().await.unwrap();
    assert!(!page.contains("style=") && !page.contains("<script>"), "the policy allows neither");
    // What the factory may ask for, a browser may not.
    let made = http.post(format!("{}/make", panel.page)).header("sec-fetch-site", "same-origin").send();
    assert_eq!(made.await.unwrap().status(), StatusCode::NOT_FOUND);
    let events = reqwest::get(format!("{}/events", panel.page)).await.unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
}
