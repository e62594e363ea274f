//! Figure 15: how many tokens a second the DIdP judges, for 1 to 16 gateways at once, and whether that depends on how many devices
//! are in the store.
//!
//! A million devices are not registered and claimed over HTTP for this: the store is filled by `didp/examples/seed.rs`, which writes
//! the rows that registration, claims and consents leave. The tokens that are asked about are drawn evenly from all over the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::Rng as _;
use serde::Deserialize;

use super::Settings;
use super::register::didp_row;
use crate::brokers::System;
use crate::http_load::{Requests, post};
use crate::results::{Results, Row, params};
use crate::stack::{Options, Seed, Stack, gateway_id};

/// Connections of all gateways together, each with one question under way.
const CONNECTIONS: usize = 16;

/// Gateways that the DIdP knows.
const GATEWAYS: usize = 16;

/// Tokens that are asked about.
const TOKENS: u64 = 20_000;

/// A line that the seeding program writes, as far as it is needed here.
#[derive(Deserialize)]
struct Told {
    access_token: String,
    gateway: String,
}

/// One connection of a gateway.
struct Asking {
    authorization: String,
    tokens: Arc<[String]>,
}

impl Requests for Asking {
    fn next(&mut self, out: &mut Vec<u8>) {
        let at = rand::rng().random_range(0..self.tokens.len().max(1));
        let form = format!("token={}", self.tokens.get(at).map_or("", String::as_str));
        post(out, "/introspect", &self.authorization, "application/x-www-form-urlencoded", form.as_bytes());
    }

    fn answered(&mut self, status: u16, body: &[u8]) -> anyhow::Result<u64> {
        let active = body.windows(13).any(|part| part == b"\"active\":true");
        anyhow::ensure!(
            status == 200 && active,
            "a good token is answered with {status}: {}",
            String::from_utf8_lossy(body)
        );
        Ok(1)
    }
}

/// Devices in the store, and how many gateways ask.
fn cases(settings: &Settings) -> Vec<(u64, Vec<usize>)> {
    let all = if settings.quick {
        vec![(1_000, vec![1, 4])]
    } else {
        vec![(1_000, vec![4]), (100_000, vec![4]), (1_000_000, vec![1, 2, 4, 8, 16])]
    };
    all.into_iter()
        .map(|(devices, gateways)| {
            let gateways = gateways.into_iter().filter(|count| settings.wants(&label(devices, *count)));
            (devices, gateways.collect::<Vec<_>>())
        })
        .filter(|(_, gateways)| !gateways.is_empty())
        .collect()
}

fn label(devices: u64, gateways: usize) -> String {
    format!("devices{devices}-gateways{gateways}")
}

/// Runs the scenario.
///
/// # Errors
/// Something does not start, or the results cannot be written.
pub fn run(settings: &Settings) -> anyhow::Result<(Results, bool)> {
    let cases = cases(settings);
    anyhow::ensure!(!cases.is_empty(), "no case has such a label");
    let steps = cases.iter().map(|(_, gateways)| gateways.len()).sum::<usize>() * settings.rounds;
    let mut bench = settings.bench("introspect", steps)?;
    'all: for (devices, counts) in cases {
        bench.show(&format!("filling the store with {devices} devices"));
        let seed = Seed { devices, tell: TOKENS.min(devices) };
        let options = Options { gateways: GATEWAYS, seed: Some(seed), ..settings.stack(1) };
        let stack = Stack::start(&settings.programs, options)?;
        let tokens = tokens(&stack)?;
        for gateways in counts {
            let one = |_: System, (): &(), round: usize| {
                let mut row = introspect(settings, &stack, &tokens, gateways)?;
                row.params.extend(params([
                    ("gateways", gateways.into()),
                    ("devices", devices.into()),
                    ("connections", CONNECTIONS.into()),
                    ("round", round.into()),
                ]));
                Ok(vec![row])
            };
            let label = label(devices, gateways);
            if !bench.interleave(&[System::Oauthing], settings.rounds, &(), &label, one)? {
                break 'all;
            }
        }
    }
    let complete = bench.finish();
    Ok((bench.results, complete))
}

/// What the seeding told, by gateway.
fn tokens(stack: &Stack) -> anyhow::Result<BTreeMap<String, Arc<[String]>>> {
    let file = stack.seeded();
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let mut tokens: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let told: Told = serde_json::from_str(line).context("a line of the seeding program")?;
        tokens.entry(told.gateway).or_default().push(told.access_token);
    }
    Ok(tokens.into_iter().map(|(gateway, tokens)| (gateway, tokens.into())).collect())
}

fn introspect(
    settings: &Settings,
    stack: &Stack,
    tokens: &BTreeMap<String, Arc<[String]>>,
    gateways: usize,
) -> anyhow::Result<Row> {
    let secret = stack.deployment.secrets.read("didp/gateway-ignite.secret")?;
    let mut loops = Vec::new();
    for connection in 0..CONNECTIONS.max(gateways) {
        let gateway = gateway_id(connection % gateways);
        let tokens = tokens.get(&gateway).with_context(|| format!("no token is for {gateway}"))?;
        let authorization = format!("Basic {}", STANDARD.encode(format!("{gateway}:{secret}")));
        loops.push(Box::new(Asking { authorization, tokens: Arc::clone(tokens) }) as Box<dyn Requests>);
    }
    didp_row(settings, stack, loops)
}

#[cfg(test)]
mod tests {
    use super::{Asking, Requests as _};

    #[test]
    fn only_an_active_token_is_an_answer() {
        let mut asking =
            Asking { authorization: "Basic x".to_owned(), tokens: vec!["demo.t".to_owned()].into() };
        let mut out = Vec::new();
        asking.next(&mut out);
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("POST /introspect HTTP/1.1\r\n") && text.ends_with("\r\n\r\ntoken=demo.t"));
        assert!(asking.answered(200, b"{\"active\":true,\"iss\":\"x\"}").is_ok());
        assert!(asking.answered(200, b"{\"active\":false}").is_err());
        assert!(asking.answered(503, b"{\"active\":true}").is_err());
    }
}
