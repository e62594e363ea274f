//! A non-blocking connection to a broker: TCP, with or without TLS, with an output buffer.
//!
//! Bytes only: packets are [`super::client`]'s.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// Kept of an output buffer that has been written; more is given back, so that idle connections cost little.
const KEPT: usize = 4096;

/// Where to connect, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// The broker's address.
    pub address: SocketAddr,
    /// TLS, and the name that the certificate is checked for.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Target {
    /// Plain TCP.
    #[must_use]
    pub const fn plain(address: SocketAddr) -> Target {
        Target { address, tls: None }
    }
}

/// How reading went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// So many bytes, and there may be more.
    More(usize),
    /// So many bytes, and no more for now.
    Drained(usize),
    /// The other side is done.
    End,
}

pub(super) struct Link {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    out: Vec<u8>,
    written: usize,
    blocked: bool,
}

impl Link {
    pub(super) fn open(target: &Target) -> io::Result<Link> {
        let socket = TcpStream::connect(target.address)?;
        let tls = match &target.tls {
            Some((config, name)) => Some(Box::new(
                ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?,
            )),
            None => None,
        };
        Ok(Link { socket, tls, out: Vec::new(), written: 0, blocked: true })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.socket.register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }

    /// Whether the TCP connection stands; an error if it failed.
    pub(super) fn established(&mut self) -> io::Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => {
                self.socket.set_nodelay(true)?;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What will be written at the next [`Self::flush`].
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// The socket takes bytes again.
    pub(super) fn writable(&mut self) {
        self.blocked = false;
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let Some(tls) = &mut self.tls else {
            let room = buffer.len();
            return match self.socket.read(buffer) {
                Ok(0) => Ok(Got::End),
                // A short read empties a stream socket (epoll(7)), which saves the call that would only say so.
                Ok(length) if length < room => Ok(Got::Drained(length)),
                Ok(length) => Ok(Got::More(length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Got::Drained(0)),
                Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Got::More(0)),
                Err(error) => Err(error),
            };
        };
        let mut drained = false;
        loop {
            match tls.reader().read(buffer) {
                Ok(0) => return Ok(Got::End),
                Ok(length) => return Ok(Got::More(length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if drained {
                return Ok(Got::Drained(0));
            }
            match tls.read_tls(&mut self.socket) {
                Ok(0) => return Ok(Got::End),
                Ok(_) => {
                    tls.process_new_packets().map_err(io::Error::other)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => drained = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => self.flush_plain(),
            Some(_) => self.flush_tls(),
        }
    }

    fn flush_plain(&mut self) -> io::Result<()> {
        while !self.blocked && self.written < self.out.len() {
            match self.socket.write(self.out.get(self.written..).unwrap_or_default()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.forget_written();
        Ok(())
    }

    fn flush_tls(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        loop {
            while tls.wants_write() && !self.blocked {
                match tls.write_tls(&mut self.socket) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            let rest = self.out.get(self.written..).unwrap_or_default();
            if self.blocked || rest.is_empty() || tls.is_handshaking() {
                break;
            }
            self.written += tls.writer().write(rest)?;
        }
        self.forget_written();
        Ok(())
    }

    fn forget_written(&mut self) {
        if self.written == self.out.len() {
            self.out.clear();
            self.out.shrink_to(KEPT);
            self.written = 0;
        }
    }
}
