//! The paper's evaluation, rerun against Mosquitto and rumqttd.
//!
//! Start at [`scenario`]: each file there says what is measured and how. They drive many clients from one thread with the
//! [`engine`], against [`brokers`] that they start themselves; [`bench`] interleaves the runs; [`results`] is the document
//! that they leave behind.

pub mod bench;
pub mod brokers;
pub mod child;
pub mod cli;
pub mod energy;
pub mod engine;
pub mod harness;
pub mod http_load;
pub mod load;
pub mod memory;
pub mod meter;
pub mod process;
pub mod report;
pub mod results;
pub mod scenario;
pub mod sink;
pub mod smoke;
pub mod stack;
pub mod stats;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;

use cli::{Arguments, Command};
use engine::Stop;
use harness::manager::Manager;

/// What the program does. Exit code 0 if everything was measured, 1 if not, 2 for a wrong command line.
pub fn main_with_args(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    if let [_, role, rest @ ..] = args.as_slice()
        && role == "child"
    {
        return child::become_program(rest);
    }
    if let [_, role] = args.as_slice()
        && role == "sink"
    {
        return match sink::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("loadtest sink: {error:#}");
                ExitCode::FAILURE
            }
        };
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
    let stop = Stop::default();
    stop_on_signals(stop.clone());
    process::raise_open_files()?;
    match &arguments.command {
        Command::Run(run) => scenario::run(run.scenario, &run.settings(stop)?),
        Command::Manager(manager) => {
            let crew = Manager::listen(manager.listen, manager.key.clone())?;
            eprintln!("loadtest: drivers may come: loadtest driver --manager http://{}", crew.address());
            crew.gather(manager.drivers, manager.gather(), &stop)?;
            let mut settings = manager.run.settings(stop)?;
            settings.host.clone_from(&manager.host);
            settings.bind = manager.bind;
            settings.crew = Some(Arc::new(crew));
            scenario::run(manager.run.scenario, &settings)
        }
        Command::Smoke { committed, out, bin_dir } => smoke::run(committed, out, bin_dir.as_deref(), &stop),
        Command::Report { from, to } => {
            let documents = report::make(from, to)?;
            println!("{}: from {documents} documents", to.join("README.md").display());
            Ok(documents > 0)
        }
        Command::Energy { file, json } => {
            let energy = energy::of_file(file)?;
            if *json {
                println!("{}", serde_json::to_string(&energy)?);
            } else {
                let energy::Energy { mwh, mean_mw, seconds, samples } = energy;
                println!("{mwh:.4} mWh in {seconds:.3} s, {mean_mw:.3} mW on average ({samples} samples)");
            }
            Ok(true)
        }
        Command::Driver(driver) => {
            harness::driver::run(&driver.manager, driver.key.clone(), &stop)?;
            Ok(true)
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
