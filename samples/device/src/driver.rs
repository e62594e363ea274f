//! The loop around [`device_client::Device`] on Tokio: socket, clock, random numbers, flash.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use device_client::{Action, Closed, Device, Millis, Options, Record, Slots, Status};
use rand::RngCore as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use crate::flash::FileFlash;
use crate::transport::Target;

/// Time that one write may take.
const WRITE: Duration = Duration::from_secs(20);

/// Time that the last bytes before closing may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Something that the device's application has to know.
#[derive(Debug, PartialEq, Eq)]
pub enum Happening {
    /// The status is another one than before.
    Status(Status),
    /// A command came.
    Command {
        /// Without `c/`.
        channel: String,
        /// Any bytes.
        payload: Vec<u8>,
    },
    /// Something is wanted that was not reported yet.
    Delta {
        /// A JSON merge patch: channels with the values that they are wanted to have.
        patch: Vec<u8>,
    },
}

type Tls = Box<TlsStream<TcpStream>>;
type Opening = Pin<Box<dyn Future<Output = Result<Tls, Closed>> + Send>>;

enum Link {
    None,
    Opening(Opening),
    Open(Tls),
}

/// A device with its socket and its flash.
pub struct Driver {
    device: Box<Device>,
    slots: Slots<FileFlash>,
    link: Link,
    unread: Vec<u8>,
    unflushed: bool,
    resolve: Option<IpAddr>,
    since: Instant,
    told: Option<Status>,
}

fn random(out: &mut [u8]) {
    rand::rng().fill_bytes(out);
}

enum Next {
    Write(usize),
    Opened(Result<Tls, Closed>),
    Read(io::Result<usize>),
    Time,
}

impl Driver {
    /// A device that is switched on with what its flash holds: `record` is what [`Slots::load`] of these slots returned.
    pub fn new(slots: Slots<FileFlash>, record: Record, options: Options, resolve: Option<IpAddr>) -> Self {
        Self {
            device: Box::new(Device::new(record, options)),
            slots,
            link: Link::None,
            unread: Vec::new(),
            unflushed: false,
            resolve,
            since: Instant::now(),
            told: None,
        }
    }

    /// The device, to press its button or publish. Call [`Driver::next`] afterwards.
    pub fn device(&mut self) -> &mut Device {
        &mut self.device
    }

    /// The time on the device's clock.
    pub fn now(&self) -> Millis {
        self.since.elapsed().as_millis() as Millis
    }

    /// Runs until something happens. May be cancelled at any time and called again.
    pub async fn next(&mut self) -> Happening {
        loop {
            let status = self.device.status();
            if self.told.as_ref() != Some(&status) {
                self.told = Some(status.clone());
                return Happening::Status(status);
            }
            self.offer();
            let now = self.now();
            match self.device.poll(now, &mut random) {
                Action::Connect(server) => {
                    let target = Target::new(server, self.resolve);
                    self.close();
                    self.link = Link::Opening(Box::pin(async move { target.connect().await.map(Box::new) }));
                }
                Action::Send(bytes) => {
                    let Link::Open(stream) = &mut self.link else {
                        self.device.closed(Closed::Lost, &mut random);
                        continue;
                    };
                    match tokio::time::timeout(WRITE, stream.write(bytes)).await {
                        Ok(Ok(written)) if written > 0 => {
                            self.unflushed = true;
                            self.device.sent(written);
                        }
                        _ => self.lost(Closed::Lost),
                    }
                }
                Action::Close => {
                    if let (Link::Open(stream), true) = (&mut self.link, self.unflushed) {
                        // The goodbye is a courtesy: it may fail.
                        let _ = tokio::time::timeout(GOODBYE, stream.flush()).await;
                    }
                    self.close();
                }
                Action::Store(record) => {
                    let saved = self.slots.save(record);
                    if let Err(error) = &saved {
                        tracing::error!(event = "store_failed", ?error);
                    }
                    self.device.stored(saved.is_ok());
                }
                Action::Command { channel, payload } => {
                    return Happening::Command { channel: channel.to_owned(), payload: payload.to_owned() };
                }
                Action::Delta { patch } => return Happening::Delta { patch: patch.to_owned() },
                Action::Wait(until) => {
                    // What was just received may have changed the status: that is told before waiting for more.
                    if self.told.as_ref() == Some(&self.device.status()) {
                        self.wait(until).await;
                    }
                }
            }
        }
    }

    async fn wait(&mut self, until: Option<Millis>) {
        if self.offer() {
            return;
        }
        let full = !self.unread.is_empty();
        let at = until.map(|until| self.since + Duration::from_millis(until));
        let time = async {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let mut buffer = [0; 2048];
        let next = match &mut self.link {
            Link::None => {
                time.await;
                Next::Time
            }
            Link::Opening(opening) => tokio::select! {
                opened = opening => Next::Opened(opened),
                () = time => Next::Time,
            },
            Link::Open(stream) if self.unflushed => {
                let flushed = tokio::time::timeout(WRITE, stream.flush()).await;
                Next::Write(usize::from(matches!(flushed, Ok(Ok(())))))
            }
            Link::Open(_) if full => {
                time.await;
                Next::Time
            }
            Link::Open(stream) => tokio::select! {
                read = stream.read(&mut buffer) => Next::Read(read),
                () = time => Next::Time,
            },
        };
        match next {
            Next::Time => {}
            Next::Write(0) => self.lost(Closed::Lost),
            Next::Write(_) => self.unflushed = false,
            Next::Opened(Ok(stream)) => {
                self.link = Link::Open(stream);
                self.device.connected();
            }
            Next::Opened(Err(how)) => self.lost(how),
            Next::Read(Ok(n)) if n > 0 => self.unread.extend_from_slice(&buffer[..n]),
            Next::Read(_) => self.lost(Closed::Lost),
        }
    }

    /// Hands over what was read; true if the machine took some of it.
    fn offer(&mut self) -> bool {
        let taken = if self.unread.is_empty() { 0 } else { self.device.received(&self.unread) };
        self.unread.drain(..taken);
        taken > 0
    }

    fn lost(&mut self, how: Closed) {
        self.close();
        self.device.closed(how, &mut random);
    }

    fn close(&mut self) {
        // Dropping the stream closes the socket; the device said its MQTT goodbye before, if it had one to say.
        self.link = Link::None;
        self.unread.clear();
        self.unflushed = false;
    }
}
