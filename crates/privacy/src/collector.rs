//! A collector of traces (OTLP over HTTP, JSON) that keeps what it is told, as it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::ledger::Ledger;
use crate::matrix::{Mark, Party, Place};
use crate::search::Searcher;

/// Port of OTLP over HTTP.
pub const PORT: u16 = 4318;

type Told = Arc<Mutex<Vec<Bytes>>>;

/// A running collector.
pub struct Collector {
    told: Told,
}

impl Collector {
    /// Listens at that address.
    ///
    /// # Errors
    /// It is not this machine's, or the port is taken.
    pub async fn at(address: IpAddr) -> anyhow::Result<Self> {
        let told = Told::default();
        let keep = |State(told): State<Told>, body: Bytes| async move {
            told.lock().unwrap_or_else(PoisonError::into_inner).push(body);
            axum::Json(serde_json::json!({}))
        };
        let router = Router::new().route("/v1/traces", post(keep)).with_state(Arc::clone(&told));
        let listener = TcpListener::bind((address, PORT)).await.context("listen for traces")?;
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { told })
    }

    /// Searches everything that was told, and says how many traces went over both DIdP and gateway.
    ///
    /// # Errors
    /// What was told is no OTLP, or of a service that tells nothing.
    pub fn search(&self, marks: &[Mark], ledger: &mut Ledger) -> anyhow::Result<usize> {
        let searcher = Searcher::new(marks)?;
        let mut traces: BTreeMap<String, BTreeSet<Party>> = BTreeMap::new();
        for body in self.told.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let message: Value = serde_json::from_slice(body).context("a trace that is no JSON")?;
            let of = &message["resourceSpans"][0];
            let party = match of["resource"]["attributes"][0]["value"]["stringValue"].as_str() {
                Some("didp") => Party::Didp,
                Some("ignite") => Party::Ignite,
                other => anyhow::bail!("a trace of {other:?}"),
            };
            ledger.search(&searcher, party, Place::Traces, "a trace", body);
            let spans = of["scopeSpans"][0]["spans"].as_array().context("a trace without spans")?;
            for span in spans {
                let trace = span["traceId"].as_str().context("a span without a trace")?;
                traces.entry(trace.to_owned()).or_default().insert(party);
            }
        }
        Ok(traces.values().filter(|parties| parties.len() == 2).count())
    }
}
