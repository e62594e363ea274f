//! One thermostat as a process of its own: JSON lines on standard input and output.
//!
//! ```text
//! in   {"do":"press"}  {"do":"long_press"}  {"do":"publish","channel":"x","payload":"1"}
//! out  {"state":{…}}  {"published":{"channel","payload"}}  {"received":{"channel","payload"}}
//! ```
//!
//! The end of standard input stops it, so that no thermostat outlives its panel.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;

use crate::state::{Message, State};
use crate::thermostat::{Settings, Thermostat, Touch};

/// A line of standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    State { state: State },
    Message(Message),
}

/// Runs a thermostat between standard input and output until the input ends.
///
/// # Errors
/// Standard output is closed.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let thermostat = Thermostat::start(settings);
    let (mut state, mut messages) = (thermostat.state(), thermostat.messages());
    let mut input = lines_of_standard_input();
    state.mark_changed();
    loop {
        let line = tokio::select! {
            line = input.recv() => {
                let Some(line) = line else { break };
                match serde_json::from_str::<Touch>(&line) {
                    Ok(touch) => thermostat.touch(touch),
                    Err(error) => tracing::warn!(event = "bad_line", %error),
                }
                continue;
            }
            changed = state.changed() => match changed {
                Ok(()) => Line::State { state: state.borrow_and_update().clone() },
                Err(_) => break,
            },
            message = messages.recv() => match message {
                Ok(message) => Line::Message(message),
                Err(broadcast::error::RecvError::Lagged(_)) => continue,
                Err(broadcast::error::RecvError::Closed) => break,
            },
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        let mut output = std::io::stdout().lock();
        output.write_all(&text).and_then(|()| output.flush())?;
    }
    thermostat.stop().await;
    Ok(())
}

/// Standard input has no readiness: a thread waits for it, and ends with the process.
fn lines_of_standard_input() -> mpsc::Receiver<String> {
    let (lines, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { break };
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A thermostat in a child process; the same to use as a [`Thermostat`].
pub struct Child {
    touches: mpsc::Sender<Touch>,
    state: watch::Receiver<Option<State>>,
    messages: broadcast::Sender<Message>,
    task: JoinHandle<()>,
}

impl Child {
    /// Starts `command`, for example `[device, run, --dir, DIR]`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &[OsString]) -> anyhow::Result<Self> {
        let (program, arguments) = command.split_first().context("no command")?;
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut input = process.stdin.take().context("no standard input")?;
        let mut output = BufReader::new(process.stdout.take().context("no standard output")?).lines();
        let (touches, mut touched) = mpsc::channel::<Touch>(16);
        let (tell, state) = watch::channel(None);
        let (messages, _) = broadcast::channel(256);
        let heard = messages.clone();
        let task = tokio::spawn(async move {
            // Lives in here, so that it is killed with the task.
            let mut process = process;
            loop {
                tokio::select! {
                    line = output.next_line() => match line {
                        Ok(Some(line)) => match serde_json::from_str(&line) {
                            Ok(Line::State { state }) => drop(tell.send_replace(Some(state))),
                            // Nobody may be listening.
                            Ok(Line::Message(message)) => drop(heard.send(message)),
                            Err(error) => tracing::warn!(event = "bad_line_of_thermostat", %error),
                        },
                        Ok(None) | Err(_) => break,
                    },
                    touch = touched.recv() => {
                        let Some(touch) = touch else { break };
                        let Ok(mut text) = serde_json::to_vec(&touch) else { continue };
                        text.push(b'\n');
                        if input.write_all(&text).await.is_err() {
                            break;
                        }
                    }
                }
            }
            drop(input);
            // It ends by itself once its input has ended; if it does not, the drop below kills it.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(3), process.wait()).await;
        });
        Ok(Self { touches, state, messages, task })
    }

    /// A short press on the button.
    pub fn press(&self) {
        self.touch(Touch::Press);
    }

    /// A long press: gives up ownership.
    pub fn long_press(&self) {
        self.touch(Touch::LongPress);
    }

    /// Publishes something beside the readings.
    pub fn publish(&self, channel: &str, payload: &str) {
        self.touch(Touch::Publish { channel: channel.to_owned(), payload: payload.to_owned() });
    }

    /// Does what `touch` says.
    pub fn touch(&self, touch: Touch) {
        // A process that has ended, or has not caught up with its button, feels nothing.
        let _ = self.touches.try_send(touch);
    }

    /// Its state, absent until it has told it for the first time.
    pub fn state(&self) -> watch::Receiver<Option<State>> {
        self.state.clone()
    }

    /// What it publishes and receives from now on.
    pub fn messages(&self) -> broadcast::Receiver<Message> {
        self.messages.subscribe()
    }

    /// True once the process has ended.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self) {
        // A panic in the task ends it too.
        let _ = (&mut self.task).await;
    }

    /// Ends the process and waits for it.
    pub async fn stop(self) {
        drop(self.touches);
        // A panic in the task ends it too.
        let _ = self.task.await;
    }
}
