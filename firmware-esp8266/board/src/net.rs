//! One TCP connection over the card: smoltcp, polled whenever the board waits for something.

use device_client::Millis;
use device_link::Lost;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use crate::card::{Card, MOST_SENT};
use crate::machine::Clock;

/// Locally administered: no maker's.
const ADDRESS: [u8; 6] = [0x02, 0, 0, 0x82, 0x66, 0x01];

/// QEMU's network: this board, and the machine that runs the emulator, which every name here stands for.
const OWN: IpAddress = IpAddress::v4(10, 0, 2, 15);
const HOST: IpAddress = IpAddress::v4(10, 0, 2, 2);

const RECEIVE: usize = 1536;
const SEND: usize = MOST_SENT;

/// How long a server may take to hear that the connection ends.
const GOODBYE: Millis = 1_000;

static mut RECEIVED: [u8; RECEIVE] = [0; RECEIVE];
static mut TO_SEND: [u8; SEND] = [0; SEND];
static mut SOCKETS: [SocketStorage<'static>; 1] = [SocketStorage::EMPTY];

/// The network.
pub struct Net {
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    next_port: u16,
}

fn instant(now: Millis) -> Instant {
    Instant::from_millis(now as i64)
}

impl Net {
    /// Switches the card on.
    ///
    /// # Safety
    /// May be called once: it takes the buffers.
    #[must_use]
    pub unsafe fn new(seed: u64) -> Self {
        let mut card = Card::new(ADDRESS);
        let mut config = Config::new(EthernetAddress(ADDRESS).into());
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut card, instant(0));
        interface.update_ip_addrs(|addresses| {
            // There is room for one.
            let _ = addresses.push(IpCidr::new(OWN, 24));
        });
        // SAFETY: the caller calls this once, so nobody else has them.
        let (received, to_send, storage) =
            unsafe { (&mut *(&raw mut RECEIVED), &mut *(&raw mut TO_SEND), &mut *(&raw mut SOCKETS)) };
        let mut sockets = SocketSet::new(&mut storage[..]);
        let mut socket =
            Socket::new(SocketBuffer::new(&mut received[..]), SocketBuffer::new(&mut to_send[..]));
        // Requests here are small and each waits for its answer.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(Duration::from_millis(10)));
        let socket = sockets.add(socket);
        Self { card, interface, sockets, socket, next_port: 49_152 + (seed as u16 & 0x3fff) }
    }

    fn poll(&mut self, now: Millis) -> &mut Socket<'static> {
        loop {
            self.card.acknowledge();
            self.interface.poll(instant(now), &mut self.card, &mut self.sockets);
            // A frame that is left behind would not wake the board again.
            if !self.card.has_received() {
                return self.sockets.get_mut(self.socket);
            }
        }
    }

    /// When the stack has something to do by itself, for example to send again what was lost.
    pub fn deadline(&mut self, now: Millis) -> Option<Millis> {
        self.interface.poll_delay(instant(now), &self.sockets).map(|delay| now + delay.total_millis())
    }

    /// Sleeps until `done`, the end of the connection or `by`.
    fn wait_for(
        &mut self,
        clock: &mut Clock,
        by: Millis,
        done: impl Fn(&Socket<'_>) -> Option<bool>,
    ) -> Result<(), Lost> {
        loop {
            let now = clock.now();
            match done(self.poll(now)) {
                Some(true) => return Ok(()),
                Some(false) => return Err(Lost),
                None if now >= by => return Err(Lost),
                None => {
                    let until = self.deadline(now).map_or(by, |deadline| deadline.min(by));
                    clock.sleep(Some(until));
                }
            }
        }
    }

    /// Opens a connection; see [`device_link::Board::dial`].
    ///
    /// # Errors
    /// No connection before `by`.
    pub fn dial(&mut self, clock: &mut Clock, port: u16, by: Millis) -> Result<(), Lost> {
        let now = clock.now();
        self.poll(now).abort();
        self.poll(now);
        let own_port = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(49_152);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        socket.connect(self.interface.context(), (HOST, port), own_port).map_err(|_| Lost)?;
        self.wait_for(clock, by, |socket| match socket.state() {
            State::Established => Some(true),
            State::SynSent | State::SynReceived => None,
            _ => Some(false),
        })
    }

    /// Whether reading would return at once.
    pub fn is_readable(&mut self, now: Millis) -> bool {
        let socket = self.poll(now);
        socket.can_recv() || !socket.may_recv()
    }

    /// Reads; see [`device_link::Board::read`].
    ///
    /// # Errors
    /// The connection has ended, or nothing came before `by`.
    pub fn read(&mut self, clock: &mut Clock, out: &mut [u8], by: Millis) -> Result<usize, Lost> {
        self.wait_for(clock, by, |socket| {
            if socket.can_recv() {
                Some(true)
            } else if socket.may_recv() {
                None
            } else {
                Some(false)
            }
        })?;
        let now = clock.now();
        let read = self.sockets.get_mut::<Socket<'_>>(self.socket).recv_slice(out).map_err(|_| Lost);
        self.poll(now);
        read
    }

    /// Writes; see [`device_link::Board::write`].
    ///
    /// # Errors
    /// The connection has ended, or there was no room before `by`.
    pub fn write(&mut self, clock: &mut Clock, bytes: &[u8], by: Millis) -> Result<usize, Lost> {
        self.wait_for(clock, by, |socket| {
            if socket.can_send() {
                Some(true)
            } else if socket.may_send() {
                None
            } else {
                Some(false)
            }
        })?;
        let now = clock.now();
        let written = self.sockets.get_mut::<Socket<'_>>(self.socket).send_slice(bytes).map_err(|_| Lost);
        self.poll(now);
        written
    }

    /// Closes; see [`device_link::Board::hang_up`].
    pub fn hang_up(&mut self, clock: &mut Clock) {
        let now = clock.now();
        self.poll(now).close();
        // A server that does not listen any more loses nothing.
        let _ = self.wait_for(clock, now + GOODBYE, |socket| match socket.state() {
            State::Established | State::CloseWait | State::FinWait1 | State::LastAck | State::Closing => None,
            _ => Some(true),
        });
    }
}
