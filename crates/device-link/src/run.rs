//! The loop around [`Device`]: does what its actions say with a board's socket, flash and pins.

use core::cell::{Cell, RefCell, RefMut};

use device_client::device::Random;
use device_client::{Action, Closed, Device, Millis, Status};

use crate::board::{Board, Event, Input, Lost};
use crate::tls::{Connection, RX_RECORD, TX_RECORD};
use crate::trust::Known;
use crate::wire::Line;

/// Time for TCP and TLS together. A handshake is about a second of arithmetic on this chip.
const DIAL: Millis = 20_000;

/// Memory for TLS: records, of which one connection at a time uses it, and certificates that were found good.
pub struct Records {
    pub(crate) rx: [u8; RX_RECORD],
    pub(crate) tx: [u8; TX_RECORD],
    pub(crate) known: Known,
}

impl Records {
    /// Nothing in it yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { rx: [0; RX_RECORD], tx: [0; TX_RECORD], known: Known::new() }
    }
}

impl Default for Records {
    fn default() -> Self {
        Self::new()
    }
}

/// A board and the connection over its socket.
pub struct Link<'a, B> {
    line: Line<'a, B>,
}

impl<'a, B: Board> Link<'a, B> {
    /// Not connected.
    pub fn new(board: &'a mut B) -> Self {
        Self { line: Line { board: RefCell::new(board), by: Cell::new(0), patient: Cell::new(false) } }
    }

    /// The board, for what has nothing to do with the connection.
    pub fn board(&self) -> RefMut<'_, &'a mut B> {
        self.line.board.borrow_mut()
    }

    /// Opens a connection to a pinned server.
    ///
    /// # Errors
    /// As [`Closed`] says.
    pub fn open<'l, 'r>(
        &'l self,
        server: &device_client::Server,
        records: &'r mut Records,
    ) -> Result<Connection<'l, 'a, 'r, B>, Closed> {
        let by = self.board().now() + DIAL;
        Connection::open(&self.line, server, by, records)
    }
}

/// Lives the life of `device` on `board` until an [`Input::Stop`].
pub fn run<B: Board, const RX: usize, const TX: usize>(
    board: &mut B,
    device: &mut Device<RX, TX>,
    records: &mut Records,
) {
    let link = Link::new(board);
    let board = &link.line.board;
    let random = &mut |out: &mut [u8]| board.borrow_mut().random(out);
    let mut connection: Option<Connection<'_, '_, '_, B>> = None;
    let mut told = Told { status: None, keeps: false };
    // What the device is told of the time; looked at again after everything but sending, which is over at once or fails.
    let mut now = None;
    loop {
        let at = now.unwrap_or_else(|| board.borrow_mut().now());
        now = None;
        match device.poll(at, random) {
            Action::Connect(server) => {
                // The record belongs to the device, which is busy being asked.
                let server = server.clone();
                connection = None;
                // Dialing and shaking hands take seconds.
                told.tell(device, board);
                match link.open(&server, records) {
                    Ok(opened) => {
                        connection = Some(opened);
                        device.connected();
                    }
                    Err(how) => device.closed(how, random),
                }
            }
            Action::Send(bytes) => match connection.as_mut().map(|open| open.send(bytes)) {
                Some(Ok(sent)) => {
                    device.sent(sent);
                    now = Some(at);
                }
                Some(Err(Lost)) | None => lose(&mut connection, board, device, random),
            },
            Action::Close => match connection.take() {
                Some(open) => open.close(),
                None => board.borrow_mut().hang_up(),
            },
            Action::Store(record) => {
                let safe = board.borrow_mut().store(record);
                device.stored(safe);
            }
            Action::Command { channel, payload } => board.borrow_mut().command(channel, payload),
            Action::Delta { patch } => board.borrow_mut().delta(patch),
            Action::Wait(until) => {
                match connection.as_mut().map_or(Ok(false), |open| open.offer(|bytes| device.received(bytes)))
                {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(Lost) => {
                        lose(&mut connection, board, device, random);
                        continue;
                    }
                }
                told.tell(device, board);
                let listen = connection.as_ref().is_some_and(|open| !open.is_full());
                let mut guard = board.borrow_mut();
                let served = match guard.wait(until, listen) {
                    Event::Time => Ok(()),
                    Event::Readable => {
                        drop(guard);
                        if connection.as_mut().is_some_and(|open| open.fill().is_err()) {
                            lose(&mut connection, board, device, random);
                        }
                        continue;
                    }
                    Event::Input(Input::Stop) => break,
                    Event::Input(Input::Press) => {
                        device.press(guard.now());
                        Ok(())
                    }
                    Event::Input(Input::LongPress) => {
                        device.long_press(guard.now());
                        Ok(())
                    }
                    Event::Input(Input::Publish { channel, payload, retain, at_least_once: true }) => {
                        device.publish_at_least_once(channel, payload, retain)
                    }
                    Event::Input(Input::Publish { channel, payload, retain, at_least_once: false }) => {
                        device.publish(channel, payload, retain)
                    }
                    Event::Input(Input::Report(patch)) => device.report(patch),
                };
                if let Err(why) = served {
                    guard.refused(why);
                }
            }
        }
    }
    if let Some(open) = connection {
        open.close();
    }
}

/// What the board was told last.
struct Told {
    status: Option<Status>,
    keeps: bool,
}

impl Told {
    fn tell<B: Board, const RX: usize, const TX: usize>(
        &mut self,
        device: &Device<RX, TX>,
        board: &RefCell<&mut B>,
    ) {
        if !self.status.as_ref().is_some_and(|told| device.is_still(told)) {
            let status = device.status();
            board.borrow_mut().show(&status);
            self.status = Some(status);
        }
        if self.keeps && !device.keeps_message() {
            board.borrow_mut().delivered();
        }
        self.keeps = device.keeps_message();
    }
}

fn lose<B: Board, const RX: usize, const TX: usize>(
    connection: &mut Option<Connection<'_, '_, '_, B>>,
    board: &RefCell<&mut B>,
    device: &mut Device<RX, TX>,
    random: &mut Random<'_>,
) {
    *connection = None;
    board.borrow_mut().hang_up();
    device.closed(Closed::Lost, random);
}
