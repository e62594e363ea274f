//! One TLS 1.3 connection to a pinned server.

use device_client::{Closed, Millis, Server};
use embedded_io::{BufRead as _, ErrorKind};
use embedded_tls::blocking::{
    Aes128GcmSha256, CryptoProvider, TlsConfig, TlsConnection, TlsContext, TlsVerifier,
};
use embedded_tls::{CryptoRngCore, MaxFragmentLength, TlsError};
use p256::ecdsa::DerSignature;
use rand_core::{CryptoRng, RngCore};

use crate::board::{Board, Lost};
use crate::run::Records;
use crate::trust::{Known, Trust};
use crate::wire::{Line, Wire};

/// Room for a record from the server: the servers here send at most 2 kB of plaintext in one.
pub const RX_RECORD: usize = 2048 + 64;
/// Room for a record to the server, with embedded-tls's reserve of 128 bytes.
pub const TX_RECORD: usize = 512 + 128;

/// Time that writing may take, and the rest of a record that has begun.
const PATIENCE: Millis = 20_000;

/// An open connection whose server has proved who it is.
pub struct Connection<'l, 'a, 'r, B: Board> {
    line: &'l Line<'a, B>,
    tls: TlsConnection<'r, Wire<'l, 'a, B>, Aes128GcmSha256>,
    unread: usize,
}

impl<'l, 'a, 'r, B: Board> Connection<'l, 'a, 'r, B> {
    /// Dials and shakes hands until `by`.
    ///
    /// # Errors
    /// [`Closed::Untrusted`] if the server is not the one that the pins mean; [`Closed::Lost`] for everything else.
    pub(crate) fn open(
        line: &'l Line<'a, B>,
        server: &Server,
        by: Millis,
        records: &'r mut Records,
    ) -> Result<Self, Closed> {
        let host = server.host.as_str();
        line.board.borrow_mut().dial(host, server.port, by).map_err(|Lost| Closed::Lost)?;
        line.by.set(by);
        line.patient.set(true);
        let Records { rx, tx, known } = records;
        let mut tls = TlsConnection::new(Wire::new(line), rx, tx);
        let trusted = handshake(&mut tls, line, server, known);
        line.patient.set(false);
        match trusted {
            Ok(()) => Ok(Self { line, tls, unread: 0 }),
            Err(how) => {
                line.board.borrow_mut().hang_up();
                Err(how)
            }
        }
    }

    /// Takes in what has come; call it when the socket is readable.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn fill(&mut self) -> Result<(), Lost> {
        self.extend();
        match self.tls.fill_buf() {
            Ok(bytes) => self.unread = bytes.len(),
            // Something that is no data came, such as a session ticket.
            Err(TlsError::Io(ErrorKind::TimedOut)) => self.unread = 0,
            Err(_) => return Err(Lost),
        }
        Ok(())
    }

    /// Gives what has come to `taker`, which returns how much it took; true if that was something.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn offer(&mut self, taker: impl FnOnce(&[u8]) -> usize) -> Result<bool, Lost> {
        if self.unread == 0 {
            return Ok(false);
        }
        let taken = taker(self.tls.fill_buf().map_err(|_| Lost)?);
        self.tls.consume(taken);
        self.unread -= taken;
        Ok(taken > 0)
    }

    /// True while something that has come was not taken yet.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.unread > 0
    }

    /// Sends some of `bytes` as one record and returns how many.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn send(&mut self, bytes: &[u8]) -> Result<usize, Lost> {
        self.extend();
        let sent = self.tls.write(bytes).map_err(|_| Lost)?;
        self.tls.flush().map_err(|_| Lost)?;
        Ok(sent)
    }

    /// Says goodbye (close_notify) and hangs up.
    pub fn close(self) {
        let line = self.line;
        // A courtesy: it may fail.
        let _ = self.tls.close();
        line.board.borrow_mut().hang_up();
    }

    fn extend(&self) {
        let now = self.line.board.borrow_mut().now();
        self.line.by.set(now + PATIENCE);
    }
}

#[inline(never)]
fn handshake<'l, 'a, B: Board>(
    tls: &mut TlsConnection<'_, Wire<'l, 'a, B>, Aes128GcmSha256>,
    line: &'l Line<'a, B>,
    server: &Server,
    known: &mut Known,
) -> Result<(), Closed> {
    let config = TlsConfig::new()
        .with_server_name(server.host.as_str())
        .with_max_fragment_length(MaxFragmentLength::Bits11);
    let mut provider = Provider { random: Random(line), trust: Trust::new(server, known) };
    let opened = tls.open(TlsContext::new(&config, &mut provider));
    match opened {
        // The library ends a handshake well that had no certificate in it.
        Ok(()) if provider.trust.is_proved() => Ok(()),
        Ok(()) => Err(Closed::Untrusted),
        Err(_) if provider.trust.is_refused() => Err(Closed::Untrusted),
        Err(_) => Err(Closed::Lost),
    }
}

struct Provider<'l, 'a, 's, B> {
    random: Random<'l, 'a, B>,
    trust: Trust<'s>,
}

impl<B: Board> CryptoProvider for Provider<'_, '_, '_, B> {
    type CipherSuite = Aes128GcmSha256;
    type Signature = DerSignature;

    fn rng(&mut self) -> impl CryptoRngCore {
        &mut self.random
    }

    fn verifier(&mut self) -> Result<&mut impl TlsVerifier<Aes128GcmSha256>, TlsError> {
        Ok(&mut self.trust)
    }
}

/// The board's random numbers in the form that the cipher suite wants.
struct Random<'l, 'a, B>(&'l Line<'a, B>);

impl<B: Board> RngCore for Random<'_, '_, B> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        self.0.board.borrow_mut().random(out);
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl<B: Board> CryptoRng for Random<'_, '_, B> {}
