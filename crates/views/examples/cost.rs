//! What a view costs a message: `cargo run --release -p views --example cost`.
//!
//! Each line is the median of rounds, in nanoseconds of this thread's elapsed time for one payload.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Instant;
use views::{HashKey, Lens, View};

const MESSAGES: usize = 100_000;
const ROUNDS: usize = 15;

const NUMBERS: [&str; 4] = ["21.47", "-3", " 19.5 ", "2.15e1"];
const OBJECTS: [&str; 2] = [
    r#"{"t":21.47,"unit":"Cel","id":"a81f","battery":{"v":3.1,"low":false}}"#,
    r#"{"id":"a81f","battery":{"v":3.0,"low":true},"unit":"Cel","t":19.53}"#,
];
const PACKS: [&str; 1] = [
    r#"[{"bn":"dev/","bt":1700000000,"bv":20,"n":"t","u":"Cel","v":1.47},{"n":"h","v":40.2},{"n":"t","t":5,"v":1.5}]"#,
];

fn main() {
    let cases: [(&str, &str, &[&str]); 9] = [
        ("summary of plain numbers", r#"{"kind":"summary","window_s":10}"#, &NUMBERS),
        (
            "summary, all statistics, 32 bounds",
            r#"{"kind":"summary","window_s":10,"statistics":["count","mean","std","min","max","last"],
              "histogram":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31]}"#,
            &NUMBERS,
        ),
        ("summary of a member", r#"{"kind":"summary","window_s":10,"field":"t"}"#, &OBJECTS),
        ("summary of a SenML pack", r#"{"kind":"summary","window_s":10,"field":"dev/t"}"#, &PACKS),
        (
            "filter of plain numbers",
            r#"{"kind":"filter","above":0,"dead_band":0.5,"interval_s":1}"#,
            &NUMBERS,
        ),
        ("filter of a member", r#"{"kind":"filter","above":20,"field":"t"}"#, &OBJECTS),
        ("plain numbers rounded", r#"{"kind":"coarsening","round":0.5}"#, &NUMBERS),
        (
            "objects rounded, a member left out",
            r#"{"kind":"coarsening","round":0.5,"drop":["id"]}"#,
            &OBJECTS,
        ),
        ("objects with a member hashed", r#"{"kind":"coarsening","hash":["id"]}"#, &OBJECTS),
    ];
    for (name, view, payloads) in cases {
        let Ok(view) = serde_json::from_str::<View>(view) else {
            println!("{name}: no view");
            continue;
        };
        println!("{:>6.0} ns  {name}", nanoseconds(Rc::new(view), payloads));
    }
}

/// A thousand messages a second, so that windows end and their summaries are written, too.
fn nanoseconds(view: Rc<View>, payloads: &[&str]) -> f64 {
    let key = HashKey::new([7; 32]);
    let mut lens = Lens::new(view);
    let mut now = 1_700_000_000_000;
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for payload in payloads.iter().cycle().take(MESSAGES) {
                now += 1;
                if lens.next_due().is_some_and(|at| at <= now) {
                    black_box(lens.due(now));
                }
                black_box(lens.see(black_box(payload.as_bytes()), Some(&key), now));
            }
            start.elapsed().as_nanos() as f64 / MESSAGES as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(ROUNDS / 2).copied().unwrap_or(f64::NAN)
}
