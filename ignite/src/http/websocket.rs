//! MQTT over WebSocket (MQTT 5 §6): the opening handshake (RFC 6455 §4.2) and a byte stream over binary messages.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Sink as _, Stream as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use super::api::Problem;
use crate::gateway::Gateway;
use crate::session;

/// Subprotocols that mean MQTT; the second is what MQTT 3.1 clients say.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
/// By how much a message may be longer than the longest packet.
const ROOM: usize = 1024;
/// Bytes read at a time.
const READ: usize = 4 * 1024;
/// Bytes of the connection until the session is open: a CONNECT, in some frames.
const UNTIL_OPEN: usize = session::LONGEST_CONNECT + READ;
/// Longest message written; a longer packet goes in pieces.
const LONGEST_MESSAGE: usize = 16 * 1024;

/// `GET /mqtt`: becomes a session.
pub(super) async fn upgrade(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request<Body>,
) -> Response {
    let headers = request.headers();
    let Some(accept) = accept_key(headers) else {
        return (
            StatusCode::UPGRADE_REQUIRED,
            [(header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_VERSION, "13")],
            "this is MQTT over WebSocket\n",
        )
            .into_response();
    };
    let Some(subprotocol) = subprotocol(headers) else {
        return Problem::bad_request("the WebSocket subprotocol must be mqtt").into_response();
    };
    // The HTTP connection gives its place back when it becomes a WebSocket.
    let Some(permit) = gateway.admission.admit(peer.ip()) else {
        return Problem::TOO_MANY.into_response();
    };
    let upgrading = hyper::upgrade::on(&mut request);
    let config = WebSocketConfig::default()
        .max_message_size(Some(gateway.limits.packet_bytes + ROOM))
        .max_frame_size(Some(gateway.limits.packet_bytes + ROOM))
        .read_buffer_size(READ)
        .write_buffer_size(0)
        .max_write_buffer_size(8 * LONGEST_MESSAGE);
    gateway.shutdown.clone().spawn(async move {
        let _permit = permit;
        let Ok(upgraded) = upgrading.await else { return };
        let loan = Loan { left: UNTIL_OPEN, places: Arc::clone(&gateway.long_messages), room: None };
        let bounded = Bounded { stream: TokioIo::new(upgraded), loan: Some(loan), unended: false };
        let socket = WebSocketStream::from_raw_socket(bounded, Role::Server, Some(config)).await;
        let limit = Duration::from_secs(gateway.limits.packet_seconds);
        let stream = ByteStream { socket, message: Bytes::new(), limit, ends_by: None };
        session::run(gateway, peer.ip(), Box::new(stream)).await;
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    response
}

fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let has = |name, token: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    let asked = has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && has(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| asked)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

fn subprotocol(headers: &HeaderMap) -> Option<&'static str> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let offered: Vec<&str> = offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    SUBPROTOCOLS.into_iter().find(|known| offered.contains(known))
}

/// The connection below the WebSocket. Until its session is open it is lent little memory: a message that is being put
/// together is held in it.
struct Bounded {
    stream: TokioIo<Upgraded>,
    /// Until the session is open.
    loan: Option<Loan>,
    /// Something came since the last message was whole.
    unended: bool,
}

/// What is lent to somebody who is not known yet.
struct Loan {
    /// Bytes that may still come.
    left: usize,
    /// Places for those who need more than a short CONNECT does, and the one that this connection has.
    places: Arc<Semaphore>,
    room: Option<OwnedSemaphorePermit>,
}

impl Loan {
    fn is_used_up(&mut self) -> bool {
        if UNTIL_OPEN - self.left > session::SHORT_CONNECT + READ && self.room.is_none() {
            self.room = Arc::clone(&self.places).try_acquire_owned().ok();
            return self.room.is_none();
        }
        self.left == 0
    }
}

impl AsyncRead for Bounded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.loan.as_mut().is_some_and(Loan::is_used_up) {
            let error = io::Error::new(io::ErrorKind::InvalidData, "too much before the session is open");
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let count = buf.filled().len() - before;
        this.unended |= count > 0;
        if let Some(loan) = &mut this.loan {
            loan.left = loan.left.saturating_sub(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// The bytes of the binary messages; where messages begin and end means nothing (MQTT 5 §6).
struct ByteStream {
    socket: WebSocketStream<Bounded>,
    message: Bytes,
    /// Time from a message's first byte to its last: it is kept meanwhile.
    limit: Duration,
    /// When the message that has begun must be whole.
    ends_by: Option<Pin<Box<Sleep>>>,
}

impl ByteStream {
    /// The next message, or that one was begun and does not end.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<tungstenite::Result<Message>>> {
        let next = Pin::new(&mut self.socket).poll_next(cx);
        if next.is_ready() {
            self.socket.get_mut().unended = false;
            self.ends_by = None;
            return next;
        }
        if self.socket.get_ref().unended {
            let limit = self.limit;
            let ends_by = self.ends_by.get_or_insert_with(|| Box::pin(sleep(limit)));
            ready!(ends_by.as_mut().poll(cx));
            let late = io::Error::from(io::ErrorKind::TimedOut);
            return Poll::Ready(Some(Err(tungstenite::Error::Io(late))));
        }
        Poll::Pending
    }
}

fn broken(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.message.is_empty() {
            match ready!(this.poll_message(cx)) {
                Some(Ok(Message::Binary(bytes))) => this.message = bytes,
                // Pings are answered by the library when it is polled.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "text message")));
                }
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let count = buf.remaining().min(this.message.len());
        buf.put_slice(&this.message[..count]);
        this.message.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    /// What comes in one call is one message, if it is not too long.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // The first packet that is written is the CONNACK.
        this.socket.get_mut().loan = None;
        ready!(Pin::new(&mut this.socket).poll_ready(cx)).map_err(broken)?;
        let length = parts.iter().map(|part| part.len()).sum::<usize>().min(LONGEST_MESSAGE);
        let mut message = BytesMut::with_capacity(length);
        for part in parts {
            let room = length - message.len();
            message.extend_from_slice(&part[..part.len().min(room)]);
        }
        Pin::new(&mut this.socket).start_send(Message::Binary(message.freeze())).map_err(broken)?;
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_close(cx).map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_accept_key_is_that_of_rfc_6455() {
        let mut asked = headers(&[
            (header::CONNECTION, "keep-alive, Upgrade"),
            (header::UPGRADE, "WebSocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        assert_eq!(accept_key(&asked).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        asked.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("8"));
        assert_eq!(accept_key(&asked), None);
    }

    #[test]
    fn a_subprotocol_that_means_mqtt_is_needed() {
        assert_eq!(
            subprotocol(&headers(&[(header::SEC_WEBSOCKET_PROTOCOL, "chat, mqttv3.1")])),
            Some("mqttv3.1")
        );
        assert_eq!(subprotocol(&headers(&[(header::SEC_WEBSOCKET_PROTOCOL, "mqtt")])), Some("mqtt"));
        assert_eq!(subprotocol(&headers(&[(header::SEC_WEBSOCKET_PROTOCOL, "chat")])), None);
        assert_eq!(subprotocol(&headers(&[])), None);
    }
}
