//! What `cargo xtask test` runs, in which order, and what each suite needs.

use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::stack::{self, Stack};
use crate::step::{self, Line, Outcome, Run, cargo, root};
use crate::tools::{self, Tool};

/// Version of paho-mqtt that the stock clients' suite uses.
const PAHO: &str = "paho-mqtt==2.1.0";

/// Version of Schemathesis that the suite `openapi` uses.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// How long the suite of that name fuzzes.
const FUZZ_SECONDS: u64 = 30;

/// One suite.
struct Suite {
    name: &'static str,
    what: &'static str,
    needs: &'static [Tool],
    run: fn() -> anyhow::Result<()>,
}

/// Whatever builds in the usual profile names the whole workspace: one package alone has other features, and everything would be built
/// once more.
const SUITES: [Suite; 18] = [
    Suite { name: "fmt", what: "formatting", needs: &[Tool::Rustfmt], run: fmt },
    Suite { name: "docs", what: "links, names and copies in the documents", needs: &[], run: docs },
    Suite { name: "clippy", what: "lints, warnings as errors", needs: &[Tool::Clippy], run: clippy },
    Suite { name: "rust", what: "all Rust tests", needs: &[], run: rust },
    Suite {
        name: "didp-postgres",
        what: "the DIdP's service tests once more, on PostgreSQL",
        needs: &[Tool::Postgres],
        run: didp_on_postgres,
    },
    Suite { name: "doctests", what: "examples in the documentation", needs: &[], run: doctests },
    Suite {
        name: "fuzz",
        what: "codec, broker, the DIdP's parsers and a device against chance, for 30 seconds each",
        needs: &[],
        run: fuzz_shortly,
    },
    Suite {
        name: "openapi",
        what: "Schemathesis against the DIdP and the description of its API",
        needs: &[Tool::PythonVenv],
        run: openapi,
    },
    Suite {
        name: "node",
        what: "tests of demo-idp and of the sample app's page",
        needs: &[Tool::Node],
        run: node,
    },
    Suite {
        name: "stock-clients",
        what: "mosquitto_pub and _sub, paho-mqtt, mqtt.js, curl, the guide's apps, oidc-provider against a stack in this process",
        needs: &[Tool::MosquittoClients, Tool::PythonVenv, Tool::Node, Tool::Curl],
        run: stock_clients,
    },
    Suite {
        name: "pages",
        what: "the DIdP's pages against WCAG 2.2 AA, by axe in Chromium",
        needs: &[Tool::Node, Tool::Chromium],
        run: pages,
    },
    Suite {
        name: "ops",
        what: "backups of databases in use, secrets and file of the production deployment, alarms",
        needs: &[Tool::Sqlite, Tool::Postgres, Tool::Openssl, Tool::Docker, Tool::Promtool],
        run: ops,
    },
    Suite {
        name: "firmware",
        what: "the firmware for the ESP8266 on an emulator, against a stack in this process",
        needs: &[Tool::Lx106, Tool::PythonVenv, Tool::Mosquitto],
        run: firmware,
    },
    Suite { name: "images", what: "images of the deployment", needs: &[Tool::Docker], run: images },
    Suite {
        name: "launcher",
        what: "the launcher against real engines, and what it does when they are killed",
        needs: &[Tool::Docker, Tool::Dockerd],
        run: launcher,
    },
    Suite {
        name: "compose",
        what: "the story in Chromium against the Compose deployment",
        needs: &[Tool::Docker, Tool::Node, Tool::Chromium, Tool::Zbar],
        run: compose,
    },
    Suite {
        name: "privacy",
        what: "who has what, beside who may have it: every mark looked for everywhere in the Compose deployment",
        needs: &[Tool::Docker, Tool::Sqlite, Tool::Capture],
        run: privacy,
    },
    Suite {
        name: "loadtest",
        what: "every load scenario, shortly, beside Mosquitto and the committed figures",
        needs: &[Tool::Docker, Tool::Mosquitto],
        run: loadtest,
    },
];

/// Names the suites.
pub(crate) fn list() {
    for suite in &SUITES {
        let missing: Vec<_> =
            suite.needs.iter().filter(|tool| !tool.is_there()).map(|tool| tool.install()).collect();
        let note =
            if missing.is_empty() { String::new() } else { format!(" (needs {})", missing.join("; ")) };
        println!("{:<16} {}{note}", suite.name, suite.what);
    }
}

/// Runs the suites in `only`, or all. True if none failed; with `all`, a skipped one is a failed one.
///
/// # Errors
/// A name in `only` that no suite has.
pub(crate) fn test(all: bool, only: &[String]) -> anyhow::Result<bool> {
    if let Some(unknown) = only.iter().find(|name| SUITES.iter().all(|suite| suite.name != **name)) {
        bail!("no suite is called `{unknown}`; `cargo xtask test --list` names them");
    }
    let mut lines: Vec<Line> = Vec::new();
    for suite in SUITES.iter().filter(|suite| only.is_empty() || only.iter().any(|name| name == suite.name)) {
        let missing: Vec<_> =
            suite.needs.iter().filter(|tool| !tool.is_there()).map(|tool| tool.install()).collect();
        if missing.is_empty() {
            lines.push(step::timed(suite.name, suite.run));
            continue;
        }
        let install = format!("install {}", missing.join("; "));
        let outcome = if all { Outcome::Failed(install) } else { Outcome::Skipped(install) };
        lines.push(Line { name: suite.name, outcome, took: Duration::ZERO });
    }
    Ok(step::conclude(&lines))
}

/// Licences, sources and advisories.
///
/// # Errors
/// cargo-deny is missing or finds something.
pub(crate) fn deny() -> anyhow::Result<()> {
    if !Tool::CargoDeny.is_there() {
        bail!("cargo-deny is missing: {}", Tool::CargoDeny.install());
    }
    Run::new(cargo(), &["deny", "check"]).go()
}

fn fmt() -> anyhow::Result<()> {
    Run::new(cargo(), &["fmt", "--all", "--", "--check"]).go()
}

/// Whether the pages agree with the sources.
///
/// # Errors
/// If they do not; each fault is printed.
pub(crate) fn docs() -> anyhow::Result<()> {
    crate::docs::check(&root())
}

fn clippy() -> anyhow::Result<()> {
    Run::new(cargo(), &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]).go()
}

/// Tests of `e2e` that `stock-clients` runs; in `rust` they would only skip themselves.
const STOCK: [&str; 5] = ["mosquitto", "other_languages", "guide", "curl", "foreign_login"];

/// The test of `e2e` that `firmware` runs.
const FIRMWARE: &str = "firmware";

fn rust() -> anyhow::Result<()> {
    if tools::has_nextest() {
        let others = STOCK.iter().chain([&FIRMWARE]);
        let filter = others.map(|binary| format!("not binary({binary})")).collect::<Vec<_>>().join(" and ");
        Run::new(cargo(), &["nextest", "run", "--workspace", "--locked", "-E", &filter]).go()
    } else {
        Run::new(cargo(), &["test", "--workspace", "--locked", "--all-targets"]).go()
    }
}

fn doctests() -> anyhow::Result<()> {
    Run::new(cargo(), &["test", "--workspace", "--locked", "--doc", "--quiet"]).go()
}

fn fuzz_shortly() -> anyhow::Result<()> {
    fuzz(Some(FUZZ_SECONDS), None, 1)
}

/// Runs the targets of `crates/mqtt-fuzz` and `crates/oauth-fuzz` under the drivers that need no libFuzzer.
///
/// # Errors
/// A packet, script or input after which something is not as promised.
pub(crate) fn fuzz(seconds: Option<u64>, packets: Option<u64>, seed: u64) -> anyhow::Result<()> {
    let (bound, number) = match packets {
        Some(packets) => ("--packets", packets),
        None => ("--seconds", seconds.unwrap_or(FUZZ_SECONDS)),
    };
    let (number, seed) = (number.to_string(), seed.to_string());
    let mqtt = ["run", "--locked", "--quiet", "--profile", "fuzz", "-p", "mqtt-fuzz", "--"];
    Run::new(cargo(), &[&mqtt[..], &[bound, &number, "--seed", &seed]].concat()).go()?;
    // The DIdP is not built once more for it: what the tests run has the same checks.
    Run::new(cargo(), &["build", "--locked", "--quiet", "--workspace", "--bin", "oauth-fuzz"]).go()?;
    let bound = if bound == "--packets" { "--inputs" } else { bound };
    Run::new(root().join("target/debug/oauth-fuzz"), &[bound, &number, "--seed", &seed]).go()
}

/// Runs `pcm/examples/soak` against the program as it is shipped.
///
/// # Errors
/// Memory that grows, a client that is cut at the wrong time, or a broker that ends.
pub(crate) fn soak(minutes: f64, seed: u64) -> anyhow::Result<()> {
    let (minutes, seed) = (minutes.to_string(), seed.to_string());
    let program = ["--locked", "--quiet", "--profile", "pcm", "-p", "pcm"];
    Run::new(cargo(), &[&["build"], &program[..], &["--bin", "pcm"]].concat()).go()?;
    let run = [&["run"], &program[..], &["--example", "soak", "--", "--minutes", &minutes, "--seed", &seed]];
    Run::new(cargo(), &run.concat()).go()
}

fn node() -> anyhow::Result<()> {
    for dir in ["samples/idp", "samples/tpa/web"] {
        npm_ci(dir)?;
        Run::new("npm", &["test"]).dir(dir).go()?;
    }
    Ok(())
}

/// About a minute.
fn didp_on_postgres() -> anyhow::Result<()> {
    Run::new(cargo(), &["test", "--locked", "--workspace", "--test", "service"])
        .env("DIDP_TEST_DATABASE", "postgres")
        .go()
}

fn stock_clients() -> anyhow::Result<()> {
    let python = tools::python_with("paho", PAHO, "paho.mqtt.client")?;
    npm_ci("samples/tpa/web")?;
    npm_ci("samples/idp")?;
    // The stack takes the program that it finds beside the tests, which may be an old one.
    Run::new(cargo(), &["build", "--locked", "--workspace", "--bin", "pcm"]).go()?;
    let tests = STOCK.map(|binary| ["--test", binary]).concat();
    Run::new(cargo(), &[&["test", "--locked", "--workspace"], &tests[..]].concat())
        .env("OAUTHING_PYTHON", python)
        .env("OAUTHING_ALL", "1")
        .go()
}

/// Every page with typical content, in every language, as a phone and a desk show it, by day and by night: a minute.
fn pages() -> anyhow::Result<()> {
    let folder = root().join("target/pages");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context("target/pages")?;
    }
    Run::new(cargo(), &["test", "--locked", "--quiet", "--workspace", "--lib", "pages_can_be_looked_at"])
        .env("DIDP_PAGES_DIR", &folder)
        .go()?;
    npm_ci("e2e/pages")?;
    Run::new("npm", &["test"])
        .dir("e2e/pages")
        .env("OAUTHING_PAGES", &folder)
        .env("OAUTHING_CHROMIUM", tools::chromium().context("Chromium is gone")?)
        .go()
}

fn ops() -> anyhow::Result<()> {
    Run::new(root().join("ops/test"), &[]).go()
}

fn openapi() -> anyhow::Result<()> {
    let venv = root().join("target/schemathesis");
    let program = venv.join("bin/schemathesis");
    if Run::new(&program, &["--version"]).output().is_err() {
        let dir = venv.to_str().context("the workspace's path is no UTF-8")?;
        Run::new("python3", &["-m", "venv", dir]).go()?;
        let python = venv.join("bin/python");
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", SCHEMATHESIS];
        Run::new(&python, &pip).go()?;
    }
    let test = ["test", "--locked", "--workspace", "--test", "service", "--", "--ignored", "schemathesis"];
    Run::new(cargo(), &test).env("OAUTHING_SCHEMATHESIS", program).go()
}

fn firmware() -> anyhow::Result<()> {
    crate::firmware::firmware(None)
}

/// Every load scenario with `--quick`, compared with the committed figures, on the programs of the images: under four minutes.
///
/// # Errors
/// A scenario that does not run to its end, or all of them too slow.
pub(crate) fn loadtest() -> anyhow::Result<()> {
    stack::programs()?;
    Run::new(root().join(stack::PROGRAMS).join("loadtest"), &["smoke"]).go()
}

fn images() -> anyhow::Result<()> {
    stack::build(stack::PROJECT)
}

fn launcher() -> anyhow::Result<()> {
    let tests = ["--test", "launcher_docker", "--test", "launcher_faults", "--test", "launcher_gateway"];
    // Each test of faults has an engine of its own; more than two at once only wait for each other.
    let run = [&["test", "--locked", "--workspace"], &tests[..], &["--", "--ignored", "--test-threads=2"]];
    Run::new(cargo(), &run.concat()).env("OAUTHING_PCM_IMAGE", format!("{}-pcm", stack::PROJECT)).go()
}

fn compose() -> anyhow::Result<()> {
    npm_ci("e2e/compose")?;
    let chromium = tools::chromium().context("Chromium is gone")?;
    let stack = Stack::up()?;
    let played = Run::new("npm", &["test"])
        .dir("e2e/compose")
        .env("CI", "1")
        .env("OAUTHING_CHROMIUM", chromium)
        .env("OAUTHING_ARTEFACTS", stack::artefacts())
        .env("COMPOSE_PROJECT_NAME", stack::PROJECT)
        .env("OAUTHING_IMAGES", stack::PROJECT)
        .env("OAUTHING_HOST", "")
        .go();
    if played.is_err() {
        stack.keep_logs();
    }
    let down = stack.down();
    played.and(down)
}

/// A minute, on the images that `images` built.
fn privacy() -> anyhow::Result<()> {
    Run::new(cargo(), &["build", "--locked", "--quiet", "--workspace", "--bin", "privacy"]).go()?;
    Run::new(root().join("target/debug/privacy"), &["run", "--images", stack::PROJECT]).go()
}

/// The same, with the images built first.
///
/// # Errors
/// A party that has more than was promised, a planted leak that is not found, or a scenario that cannot be played.
pub(crate) fn privacy_with_images() -> anyhow::Result<()> {
    images()?;
    privacy()
}

fn npm_ci(dir: &str) -> anyhow::Result<()> {
    Run::new("npm", &["ci", "--no-audit", "--no-fund"])
        .dir(dir)
        .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
        .go()
}
