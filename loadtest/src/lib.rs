//! The paper's evaluation, rerun against Mosquitto and rumqttd.
//!
//! Start at [`scenario`]: each file there says what is measured and how. They drive many clients from one thread with the
//! [`engine`], against [`brokers`] that they start themselves; [`bench`] interleaves the runs; [`results`] is the document
//! that they leave behind.

pub mod bench;
pub mod brokers;
pub mod child;
pub mod cli;
pub mod engine;
pub mod process;
pub mod results;
pub mod scenario;
pub mod stats;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use cli::{Arguments, Command, Scenario};
use engine::Stop;

/// What the program does. Exit code 0 if everything was measured, 1 if not, 2 for a wrong command line.
pub fn main_with_args(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    if let [_, role, rest @ ..] = args.as_slice()
        && role == "child"
    {
        return child::become_program(rest);
    }
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            // Where standard output and error are gone, nobody reads it.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    match &arguments.command {
        Command::Run(run) => {
            let stop = Stop::default();
            stop_on_signals(stop.clone());
            process::raise_open_files()?;
            let settings = run.settings(stop)?;
            let (_, complete) = match run.scenario {
                Scenario::Broker => scenario::broker::run(&settings, run.json.clone())?,
            };
            Ok(complete)
        }
    }
}

/// The first Ctrl-C stops after what is being measured; a second one at once.
fn stop_on_signals(stop: Stop) {
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            loop {
                if tokio::signal::ctrl_c().await.is_err() {
                    return;
                }
                if stop.is_set() {
                    std::process::exit(130);
                }
                stop.set();
            }
        });
    });
}
