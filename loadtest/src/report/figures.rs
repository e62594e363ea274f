//! The sections of the page: what each scenario's figure shows beside the paper's.

use crate::brokers::System;
use crate::results::{Results, float};
use crate::stats::short;

use super::cases::Case;
use super::plot::{Look, Plot, Series};
use super::{Line, Section, paper};

/// The section of a document.
pub(super) fn section(results: &Results, cases: &[Case<'_>], stem: &str) -> Section {
    let mut section = match results.scenario.as_str() {
        "latency" => latency(cases, stem),
        "connect" => connect(cases),
        "stress" => stress(cases, stem),
        "register" => register(cases, stem),
        "introspect" => introspect(cases, stem),
        "token" => token(cases),
        "storm" => storm(cases),
        "fanout" => fanout(cases, stem),
        "density" => density(cases),
        "soak" => soak(cases, stem),
        "broker" => broker(cases),
        "harness" => harness(cases),
        other => plain(other, cases),
    };
    let runtime = |name: &str| {
        results
            .rows
            .iter()
            .any(|row| row.params.get("runtime").and_then(|value| value.as_str()) == Some(name))
    };
    match (runtime("docker"), runtime("process")) {
        (true, false) => section.title.push_str(" (PCMs in containers)"),
        (false, true) => section.title.push_str(" (PCMs as sandboxed processes)"),
        _ => {}
    }
    section
}

fn empty(title: &str, text: &str) -> Section {
    Section { title: title.to_owned(), text: text.to_owned(), plots: Vec::new(), lines: Vec::new() }
}

/// A metric of one system over a parameter.
fn line(cases: &[Case<'_>], system: System, metric: &str, x: &str, name: &str, look: Look) -> Series {
    let mut points: Vec<(f64, f64, f64, f64)> = cases
        .iter()
        .filter_map(|case| {
            let spread = case.spread(system, metric)?;
            Some((float(case.number(x)?), spread.median, spread.least, spread.most))
        })
        .collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    Series { name: name.to_owned(), look, points }
}

fn papers(name: &str, look: Look, points: impl Iterator<Item = (u64, f64)>) -> Series {
    let points = points.map(|(x, y)| (float(x), y, y, y)).collect();
    Series { name: name.to_owned(), look, points }
}

/// So many of something, in words that fit one as well.
fn count(number: u64, what: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{} {what}{end}", crate::stats::axis(float(number)))
}

fn tls(case: &Case<'_>) -> &'static str {
    if case.is("tls") { ", TLS" } else { "" }
}

fn latency(cases: &[Case<'_>], stem: &str) -> Section {
    let mut section = empty(
        "Latency (figures 10 and 11)",
        "Owners with a device (`device-client`) and an app each; every client sends one message of 100 bytes a second, QoS 0, readings and commands. From just before a message's bytes are put together \
         to the return of the read that brought it, counted from when it was due.",
    );
    let plain: Vec<Case<'_>> = cases.iter().filter(|case| !case.is("tls")).cloned().collect();
    let plain = if plain.is_empty() { cases.to_vec() } else { plain };
    let level =
        |pick: fn(&paper::Latency) -> f64| paper::LATENCY.iter().map(move |one| (one.clients, pick(one)));
    section.plots.push((
        format!("{stem}-mean.svg"),
        Plot {
            title: "Mean latency by number of owners".to_owned(),
            x: "owners, a device and an app each".to_owned(),
            y: "milliseconds".to_owned(),
            log_x: false,
            log_y: true,
            series: vec![
                papers("paper: IGNITE", Look::Paper, level(|one| one.ignite_ms)),
                papers("paper: Mosquitto", Look::PaperToo, level(|one| one.mosquitto_ms)),
                line(&plain, System::Oauthing, "mean_ms", "owners", "OAuthing", Look::Ours),
                line(&plain, System::Mosquitto, "mean_ms", "owners", "Mosquitto", Look::Mosquitto),
            ],
        },
    ));
    section.plots.push((
        format!("{stem}-tail.svg"),
        Plot {
            title: "95 % and 99 % of messages".to_owned(),
            x: "owners, a device and an app each".to_owned(),
            y: "milliseconds".to_owned(),
            log_x: false,
            log_y: true,
            series: vec![
                papers("paper: IGNITE 99 %", Look::Paper, level(|one| one.p99_ms)),
                papers("paper: IGNITE 95 %", Look::PaperToo, level(|one| one.p95_ms)),
                line(&plain, System::Oauthing, "p99_ms", "owners", "OAuthing 99 %", Look::Ours),
                line(&plain, System::Oauthing, "p95_ms", "owners", "OAuthing 95 %", Look::OursToo),
                line(&plain, System::Mosquitto, "p99_ms", "owners", "Mosquitto 99 %", Look::Mosquitto),
                line(&plain, System::Mosquitto, "p95_ms", "owners", "Mosquitto 95 %", Look::MosquittoToo),
            ],
        },
    ));
    let mut sorted = cases.to_vec();
    sorted.sort_by_key(|case| (case.is("tls"), case.number("owners")));
    for case in &sorted {
        let owners = case.number("owners").unwrap_or(0);
        let at = paper::LATENCY.iter().find(|level| level.clients == owners);
        let what = |metric: &str| format!("{}{}: {metric}, ms", count(owners, "owner"), tls(case));
        let mut mean = Line::of(case, "mean_ms", what("mean"));
        let mut p95 = Line::of(case, "p95_ms", what("95 %"));
        let mut p99 = Line::of(case, "p99_ms", what("99 %"));
        if let Some(at) = at {
            mean = mean.paper(format!("{} (Mosquitto {})", at.ignite_ms, at.mosquitto_ms));
            p95 = p95.paper(at.p95_ms.to_string());
            p99 = p99.paper(at.p99_ms.to_string());
        }
        if let (Some(added), Some(ratio)) = (case.difference("mean_ms"), &mut mean.ratio) {
            ratio.push_str(&format!("; added {} ms", added.text()));
        }
        section.lines.extend([mean, p95, p99]);
        section.lines.push(Line::of(
            case,
            "per_core_second",
            format!("{}{}: messages a CPU-second", count(owners, "owner"), tls(case)),
        ));
    }
    section
}

fn connect(cases: &[Case<'_>]) -> Section {
    let mut section = empty(
        "Connect (figure 12)",
        "From opening the socket to CONNACK, one device after the other; the gateway asks the DIdP about every token. *Cold*: the first connection that an owner ever makes, the PCM has to be started. \
         *Pool*: the same with started PCMs waiting. TLS is 1.3 with a P-256 certificate, without resumption.",
    );
    for case in cases {
        let pcm = case.text("pcm").unwrap_or("");
        let told = match pcm {
            "running" => {
                Some(format!("{} (Mosquitto {})", paper::CONNECT_RUNNING_MS, paper::CONNECT_MOSQUITTO_MS))
            }
            "cold" | "pool" => Some(short(paper::CONNECT_LAUNCHED_MS)),
            _ => None,
        };
        for (metric, name) in [("p50_ms", "median"), ("mean_ms", "mean"), ("p99_ms", "99 %")] {
            let mut line = Line::of(case, metric, format!("{pcm}{}: {name}, ms", tls(case)));
            if metric == "mean_ms" {
                line.paper.clone_from(&told);
            }
            section.lines.push(line);
        }
        if case.spread(System::Oauthing, "over_engine_ms").is_some() {
            let engine = format!("{pcm}: the engine's own create and start, median, ms");
            section.lines.push(Line::of(case, "engine_p50_ms", engine));
            let over = format!("{pcm}: over the engine's own, median of the pairs, ms");
            section.lines.push(Line::of(case, "over_engine_ms", over));
        }
    }
    section
}

fn stress(cases: &[Case<'_>], stem: &str) -> Section {
    let mut section = empty(
        "Stress (figure 13)",
        "Closed loop: every device publishes its next reading of 100 bytes, QoS 0, when its app has the one before. *Slowest* is the owner who got least, over the median owner.",
    );
    section.plots.push((
        format!("{stem}.svg"),
        Plot {
            title: "Messages a second, one in flight for each owner".to_owned(),
            x: "owners".to_owned(),
            y: "messages a second".to_owned(),
            log_x: true,
            log_y: false,
            series: vec![
                papers("paper: IGNITE", Look::Paper, paper::STRESS.into_iter()),
                line(cases, System::Oauthing, "per_second", "owners", "OAuthing", Look::Ours),
                line(cases, System::Mosquitto, "per_second", "owners", "Mosquitto", Look::Mosquitto),
            ],
        },
    ));
    for case in cases {
        let owners = case.number("owners").unwrap_or(0);
        let what = |metric: &str| format!("{}{}: {metric}", count(owners, "owner"), tls(case));
        let mut rate = Line::of(case, "per_second", what("messages a second"));
        let mut mean = Line::of(case, "mean_ms", what("mean latency, ms"));
        if let Some((_, told)) = paper::STRESS.iter().find(|(clients, _)| *clients == owners) {
            rate = rate.paper(short(*told));
        }
        if owners == 400 {
            mean = mean.paper(paper::STRESS_MEAN_MS.to_string());
        }
        section.lines.extend([
            rate,
            mean,
            Line::of(case, "per_core_second", what("messages a CPU-second")),
            Line::of(case, "slowest_to_median", what("slowest")),
        ]);
    }
    section
}

fn register(cases: &[Case<'_>], stem: &str) -> Section {
    let mut section = empty(
        "Registration (figure 14)",
        "Devices registered a second at the DIdP over 16 connections, by the PBKDF2 iterations of their secrets (default 1,000); each is durable when it is answered. Mosquitto has no such thing.",
    );
    let with = |batch: u64| -> Vec<Case<'_>> {
        cases.iter().filter(|case| case.number("batch") == Some(batch)).cloned().collect()
    };
    let batches: std::collections::BTreeSet<u64> =
        cases.iter().filter_map(|case| case.number("batch")).collect();
    let mut series = Vec::new();
    for (batch, look) in batches.iter().zip([Look::Ours, Look::OursToo]) {
        let name = if *batch == 1 { "one by one".to_owned() } else { format!("in batches of {batch}") };
        series.push(line(&with(*batch), System::Oauthing, "per_second", "iterations", &name, look));
    }
    section.plots.push((
        format!("{stem}.svg"),
        Plot {
            title: "Devices registered a second".to_owned(),
            x: "PBKDF2 iterations".to_owned(),
            y: "devices a second".to_owned(),
            log_x: true,
            log_y: true,
            series,
        },
    ));
    for case in cases {
        let iterations = count(case.number("iterations").unwrap_or(0), "iteration");
        let batch = case.number("batch").unwrap_or(1);
        let how = if batch == 1 { "one by one".to_owned() } else { format!("batches of {batch}") };
        section.lines.push(Line::of(case, "per_second", format!("{iterations}, {how}: devices a second")));
        section.lines.push(Line::of(case, "p99_ms", format!("{iterations}, {how}: 99 % of answers, ms")));
    }
    section
}

fn introspect(cases: &[Case<'_>], stem: &str) -> Section {
    let mut section = empty(
        "Introspection (figure 15)",
        "Tokens judged a second by the DIdP, for 1 to 16 gateways at once, by the number of devices in the store. The paper says that it scales to many gateways and gives no numbers. The store is filled by \
         the harness with rows as the flows make them, not over HTTP.",
    );
    let devices: std::collections::BTreeSet<u64> =
        cases.iter().filter_map(|case| case.number("devices")).collect();
    let mut series = Vec::new();
    for (count, look) in devices.iter().rev().zip([Look::Ours, Look::OursToo, Look::PaperToo]) {
        let these: Vec<Case<'_>> =
            cases.iter().filter(|case| case.number("devices") == Some(*count)).cloned().collect();
        let name = format!("{} devices in the store", short(float(*count)));
        series.push(line(&these, System::Oauthing, "per_second", "gateways", &name, look));
    }
    section.plots.push((
        format!("{stem}.svg"),
        Plot {
            title: "Introspections a second".to_owned(),
            x: "gateways".to_owned(),
            y: "a second".to_owned(),
            log_x: false,
            log_y: false,
            series,
        },
    ));
    for case in cases {
        let gateways = case.number("gateways").unwrap_or(0);
        let devices = count(case.number("devices").unwrap_or(0), "device");
        let what = |metric: &str| format!("{}, {devices}: {metric}", count(gateways, "gateway"));
        section.lines.extend([
            Line::of(case, "per_second", what("a second")),
            Line::of(case, "p99_ms", what("99 %, ms")),
            Line::of(case, "rss_didp_bytes", what("memory of the DIdP, bytes")),
        ]);
    }
    section
}

fn token(cases: &[Case<'_>]) -> Section {
    let mut section = empty(
        "Refresh",
        "Token pairs a second: apps over HTTP, devices over MQTT, each asking with the refresh token that it got last. Each pair is durable when it is answered.",
    );
    for case in cases {
        let door = case.text("door").unwrap_or("").to_uppercase();
        section.lines.push(Line::of(case, "per_second", format!("{door}: a second")));
        section.lines.push(Line::of(case, "p99_ms", format!("{door}: 99 %, ms")));
    }
    section
}

fn storm(cases: &[Case<'_>]) -> Section {
    let mut section = empty(
        "Reconnect storm",
        "All connections end without a goodbye and every client connects again at the same moment; the DIdP is asked about every token.",
    );
    for case in cases {
        let clients = case.number("clients").unwrap_or(0);
        let what = |metric: &str| format!("{clients} clients{}: {metric}", tls(case));
        section.lines.extend([
            Line::of(case, "seconds", what("until all are back, s")),
            Line::of(case, "per_second", what("connects a second")),
            Line::of(case, "p99_ms", what("99 % of connects, ms")),
        ]);
    }
    section
}

fn fanout(cases: &[Case<'_>], stem: &str) -> Section {
    let mut section = empty("Fan-out", "One device, many sessions of an app; copies received.");
    let of = |qos: u64| -> Vec<Case<'_>> {
        cases.iter().filter(|case| case.number("qos") == Some(qos)).cloned().collect()
    };
    section.plots.push((
        format!("{stem}.svg"),
        Plot {
            title: "Copies a CPU-second of the system, QoS 0".to_owned(),
            x: "receivers".to_owned(),
            y: "copies a CPU-second".to_owned(),
            log_x: false,
            log_y: false,
            series: vec![
                line(&of(0), System::Oauthing, "per_core_second", "receivers", "OAuthing", Look::Ours),
                line(&of(0), System::Mosquitto, "per_core_second", "receivers", "Mosquitto", Look::Mosquitto),
            ],
        },
    ));
    for case in cases {
        let (receivers, qos) = (case.number("receivers").unwrap_or(0), case.number("qos").unwrap_or(0));
        let what = |metric: &str| format!("{}, QoS {qos}: {metric}", count(receivers, "receiver"));
        section.lines.extend([
            Line::of(case, "per_second", what("copies a second")),
            Line::of(case, "per_core_second", what("copies a CPU-second")),
            Line::of(case, "p99_ms", what("99 %, ms")),
        ]);
    }
    section
}

fn density(cases: &[Case<'_>]) -> Section {
    let mut section = empty(
        "Density",
        "Memory of an owner with two clients connected that have exchanged a message: PSS of the PCM, kernel memory, share of the shims, growth of gateway, launcher and engine. *On 2 GB*: what is left beside \
         what these take at rest, over that.",
    );
    for case in cases {
        let owners = case.number("owners").unwrap_or(0);
        let mut fit = Line::of(case, "owners_per_2gb", format!("{owners} owners: fit on 2 GB"));
        let mut cost = Line::of(case, "usd_per_owner_month", "US$ for each owner and month, a host at US$20");
        fit = fit.paper(short(paper::OWNERS));
        cost = cost.paper(short(paper::USD));
        section.lines.extend([
            fit,
            cost,
            Line::of(case, "bytes_each", "bytes each, in all"),
            Line::of(case, "pss_bytes_each", "of it PSS of the PCM"),
            Line::of(case, "kernel_bytes_each", "of it kernel memory"),
            Line::of(case, "shim_bytes_each", "of it share of the shims"),
            Line::of(case, "services_growth_bytes_each", "of it growth of gateway, launcher, engine"),
            Line::of(case, "services_rest_bytes", "gateway, launcher, engine at rest, bytes"),
        ]);
        if let Some(devices) = case.spread(System::Oauthing, "devices_per_owner") {
            section.lines.push(Line {
                what: "devices an owner can have, each one message a minute, when the host is full"
                    .to_owned(),
                paper: Some("600".to_owned()),
                mosquitto: None,
                ours: Some(devices.text()),
                ratio: None,
            });
        }
        if !case.is("swap") {
            section.text.push_str(" This machine has no swap, so that case was not measured.");
        }
    }
    section
}

fn soak(cases: &[Case<'_>], stem: &str) -> Section {
    let mut section = empty(
        "Over time",
        "The load of figure 10 with QoS 1 for a long time; memory of each part, latency in each slice of the time.",
    );
    let megabytes = |metric: &str, name: &str, look| {
        let mut series = line(cases, System::Oauthing, metric, "slice", name, look);
        for (_, middle, least, most) in &mut series.points {
            (*middle, *least, *most) = (*middle / 1e6, *least / 1e6, *most / 1e6);
        }
        series
    };
    section.plots.push((
        format!("{stem}.svg"),
        Plot {
            title: "Resident memory over time".to_owned(),
            x: "slice of the time".to_owned(),
            y: "megabytes".to_owned(),
            log_x: false,
            log_y: false,
            series: vec![
                megabytes("rss_ignite_bytes", "IGNITE", Look::Ours),
                megabytes("rss_didp_bytes", "DIdP", Look::Mosquitto),
                megabytes("rss_launcher_bytes", "launcher", Look::Paper),
                megabytes("rss_pcm_bytes", "PCM (mean)", Look::OursToo),
            ],
        },
    ));
    for (case, name) in [(cases.first(), "first slice"), (cases.last(), "last slice")] {
        let Some(case) = case else { continue };
        for (metric, what) in [
            ("mean_ms", "mean latency, ms"),
            ("p99_ms", "99 %, ms"),
            ("rss_ignite_bytes", "IGNITE, bytes"),
            ("rss_didp_bytes", "DIdP, bytes"),
            ("rss_pcm_bytes", "a PCM, bytes"),
        ] {
            section.lines.push(Line::of(case, metric, format!("{name}: {what}")));
        }
    }
    section
}

fn broker(cases: &[Case<'_>]) -> Section {
    let mut section = empty(
        "The owner's broker alone",
        "PCM and Mosquitto as plain brokers, without gateways: messages for each second of the broker's own CPU time. Closed loops, 100 bytes. rumqttd, the second baseline, stands beside Mosquitto where it was measured.",
    );
    for case in cases {
        let mut what: Vec<String> = Vec::new();
        for (name, value) in &case.params {
            match value.as_str() {
                Some(text) => what.insert(0, text.to_owned()),
                None => what.push(format!("{name} {value}")),
            }
        }
        let mut line = Line::of(case, "per_core_second", what.join(", "));
        if let Some(second) = case.spread(System::Rumqttd, "per_core_second") {
            let first = line.mosquitto.map(|first| format!("{first}; ")).unwrap_or_default();
            line.mosquitto = Some(format!("{first}rumqttd {}", second.text()));
        }
        section.lines.push(line);
    }
    section
}

fn harness(cases: &[Case<'_>]) -> Section {
    let mut section = empty(
        "The harness itself",
        "The clients of these measurements against a *null sink*, a program that hands each message on and does nothing else of a broker's work: what they reach there is what they can reach; \
         its numbers stand in the column of OAuthing. Beside it the load of figure 10 on Mosquitto by these clients, and by `rumqttc`. And as many connections as one driver may have.",
    );
    for case in cases {
        let text = |name: &str| case.text(name).unwrap_or("");
        let client = if text("client") == "engine" { "" } else { ", by rumqttc" };
        let connections = 2 * case.number("pairs").unwrap_or(0);
        let load = format!("{} connections{client}, {}", short(float(connections)), text("pace"));
        for (metric, what) in [
            ("per_second", "messages a second"),
            ("mean_ms", "mean, ms"),
            ("p99_ms", "99 %, ms"),
            ("load_cpu_seconds", "CPU seconds of the clients"),
            ("cpu_seconds", "CPU seconds of the server"),
            ("rss_load_bytes", "memory of the clients, bytes"),
        ] {
            let line = Line::of(case, metric, format!("{load}: {what}"));
            if line.ours.is_some() || line.mosquitto.is_some() {
                section.lines.push(line);
            }
        }
    }
    section
}

/// A scenario that has no section of its own: every metric as it is.
fn plain(scenario: &str, cases: &[Case<'_>]) -> Section {
    let mut section = empty(scenario, "");
    for case in cases {
        let named: Vec<String> = case.params.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let metrics: std::collections::BTreeSet<&String> = [System::Oauthing, System::Mosquitto]
            .iter()
            .flat_map(|system| case.of(*system))
            .flat_map(|row| row.metrics.keys())
            .collect();
        for metric in metrics {
            section.lines.push(Line::of(case, metric, format!("{}: {metric}", named.join(", "))));
        }
    }
    section
}
