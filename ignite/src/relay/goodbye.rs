//! A session's last words to both sides, for a bounded time each.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::exchange::Exchange;
use super::half::Half;
use crate::cause::Cause;

/// Time for the last bytes of a session.
const GOODBYE: Duration = Duration::from_secs(1);
/// Time for the PCM to read that the client left.
const PCM_ENDS: Duration = Duration::from_secs(2);
/// Time and bytes that a client gets to see our last words before its connection is closed.
const LINGER: (Duration, u64) = (Duration::from_millis(500), 16 * 1024 * 1024);

/// Says the last words and closes.
pub(super) async fn say<C, P>(cause: Cause, mut exchange: Exchange, client: Half<C>, pcm: Half<P>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    let left = matches!(cause, Cause::ClientDisconnected | Cause::ClientGone);
    if !left {
        exchange.aside(|exchange, out| exchange.say_goodbye(cause, out));
    }
    let Exchange { to_client, to_pcm, .. } = &exchange;
    let is_heard = !client.is_deaf && cause != Cause::ClientBlocked && cause != Cause::ClientGone;
    let client_ended = client.has_ended;
    let (mut from_client, mut client) = tokio::io::split(client.stream);
    let (mut from_pcm, mut pcm) = tokio::io::split(pcm.stream);
    let with_client = async {
        if is_heard {
            let _ = timeout(GOODBYE, write_all(&mut client, to_client.pending())).await;
        }
        let _ = timeout(GOODBYE, client.shutdown()).await;
        if !client_ended {
            linger(&mut from_client).await;
        }
    };
    let with_pcm = async {
        // What the client sent before it left still counts; after a revocation nothing does but that it is gone.
        if left || cause.ends_the_right() {
            let _ = timeout(GOODBYE, write_all(&mut pcm, to_pcm.pending())).await;
        }
        let _ = timeout(GOODBYE, pcm.shutdown()).await;
    };
    // A PCM that fails to write sees a connection that broke, and may not read on until our DISCONNECT.
    let pcm_ends = async {
        if cause.ends_the_right() {
            let _ = timeout(PCM_ENDS, tokio::io::copy(&mut from_pcm, &mut tokio::io::sink())).await;
        }
    };
    tokio::join!(with_client, with_pcm, pcm_ends);
}

async fn write_all<W: AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Takes what the other side still sends, for a short time. A socket that is closed with something unread in it is reset,
/// and the last words to the client with it.
pub(crate) async fn linger<R: AsyncRead + Unpin>(from: &mut R) {
    let mut rest = from.take(LINGER.1);
    let _ = timeout(LINGER.0, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}
