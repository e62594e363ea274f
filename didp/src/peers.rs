//! Other DIdPs on the same database. What happens at one reaches devices, gateways and pages at the others: through LISTEN and
//! NOTIFY, with the commit that made it so.
//!
//! Each replica has a number, says every second that it lives, and knows which others do. A device's connection belongs to one
//! replica for life; its number says to which. A message for a device elsewhere is sealed with a key that only the replicas
//! have, because the database must not see an authorization code. When a replica dies, the others end what only it could have
//! continued. With SQLite there is one replica, number 0, and nothing of this runs.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use service::secret;
use zeroize::Zeroizing;

use crate::flows::{Refusal, claim};
use crate::hub::{ClaimMessage, Move};
use crate::keys::Purpose;
use crate::state::App;
use crate::store::Conn;
use crate::store::replicas::{self, CONNECTIONS};

/// Between two signs of life, and before a lost database is asked again.
const BEAT: Duration = Duration::from_secs(1);
/// Devices in one message; NOTIFY carries less than 8,000 bytes.
const ANNOUNCED: usize = 100;

/// What is known of the other replicas.
pub struct Peers {
    /// This replica's number.
    pub replica: i64,
    alive: Mutex<HashSet<i64>>,
}

/// What replicas tell each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    /// An event of this number was committed.
    Event(i64),
    /// A claim changed its state.
    Claim,
    /// These devices connected.
    Arrived(Vec<(String, i64)>),
    /// For the device on this connection, sealed.
    Device(String, i64, String),
}

/// What an event or a claim's change tells the others; for a transaction that made it.
pub(crate) fn news(event: Option<i64>, claim: bool) -> impl Iterator<Item = String> {
    let event = event.map(Message::Event);
    let claim = claim.then_some(Message::Claim);
    event.into_iter().chain(claim).filter_map(|message| serde_json::to_string(&message).ok())
}

impl Peers {
    /// Peers of the replica with this number.
    pub fn new(replica: i64) -> Self {
        Self { replica, alive: Mutex::default() }
    }

    /// Number that this replica's connections come after.
    pub fn first_connection(&self) -> i64 {
        self.replica * CONNECTIONS
    }

    /// How many others live.
    pub fn others(&self) -> usize {
        self.alive().iter().filter(|replica| **replica != self.replica).count()
    }

    /// True if the connection is one of another replica.
    fn is_elsewhere(&self, connection: i64) -> bool {
        connection / CONNECTIONS != self.replica
    }

    fn alive(&self) -> MutexGuard<'_, HashSet<i64>> {
        self.alive.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// True if this connection of the device is still there: here, or at a replica that lives. What a living replica lost, it says
/// itself, by ending the claim.
pub(crate) fn holds(app: &App, device: &str, connection: i64) -> bool {
    if app.peers.is_elsewhere(connection) {
        return app.peers.alive().contains(&(connection / CONNECTIONS));
    }
    app.hub.holds(device, connection)
}

/// Tells the device on this connection something; false if it is gone.
pub(crate) async fn tell(app: &App, device: &str, connection: i64, message: ClaimMessage) -> bool {
    if !app.peers.is_elsewhere(connection) {
        return app.hub.send(device, connection, message);
    }
    if !holds(app, device, connection) {
        return false;
    }
    let sealed = secret::encode(seal(app, connection, &message.to_bytes()));
    let message = Message::Device(device.to_owned(), connection, sealed);
    match publish(app, &message).await {
        Ok(()) => true,
        Err(refusal) => {
            refusal.log("peer_not_told");
            false
        }
    }
}

/// Those of an owner's devices that are connected to any replica; `devices` are all of them.
pub(crate) async fn online(
    app: &App,
    conn: &mut Conn,
    user: i64,
    devices: &[String],
) -> Result<HashSet<String>, Refusal> {
    let here = devices.iter().filter(|device| app.hub.is_online(device)).cloned();
    let mut online: HashSet<String> = here.collect();
    if app.store.is_shared() {
        online.extend(replicas::present(conn, user).await?);
    }
    Ok(online)
}

async fn publish(app: &App, message: &Message) -> Result<(), Refusal> {
    let text = serde_json::to_string(message).unwrap_or_default();
    Ok(replicas::notify(&mut *app.store.read().await?, &text).await?)
}

/// Keeps in touch with the others until the process stops; then says goodbye.
pub(crate) async fn run(app: App) {
    if !app.store.is_shared() {
        return;
    }
    tokio::select! {
        () = app.shutdown.begun() => {}
        () = beat(&app) => {}
        () = listen(&app) => {}
        () = announce(&app) => {}
    }
}

/// Takes this replica off the list, when its connections are gone.
pub(crate) async fn leave(app: &App) {
    if app.store.is_shared()
        && let Ok(mut tx) = app.store.write().await
        && replicas::remove(&mut tx, app.peers.replica).await.is_ok()
    {
        // If it fails, the others will find out.
        let _ = tx.commit().await;
    }
}

async fn beat(app: &App) {
    loop {
        if let Err(refusal) = beat_once(app).await {
            refusal.log("replica_beat_failed");
        }
        tokio::time::sleep(BEAT).await;
    }
}

/// Says that this replica lives, and ends what dead ones left.
pub(crate) async fn beat_once(app: &App) -> Result<(), Refusal> {
    let mut conn = app.store.read().await?;
    if !replicas::beat(&mut conn, app.peers.replica).await? {
        tracing::warn!(event = "replica_was_thought_dead");
        app.hub.announce_all();
    }
    let all = replicas::all(&mut conn).await?;
    drop(conn);
    *app.peers.alive() = all.iter().filter(|(_, alive)| *alive).map(|(replica, _)| *replica).collect();
    for (replica, _) in all.into_iter().filter(|(replica, alive)| !alive && *replica != app.peers.replica) {
        claim::end_unserved(app, replica).await?;
        let mut tx = app.store.write().await?;
        replicas::remove(&mut tx, replica).await?;
        tx.commit().await?;
        tracing::warn!(event = "replica_dead", replica);
    }
    Ok(())
}

/// Hears what the others do. After a time without a connection to the database anything may have happened.
async fn listen(app: &App) {
    loop {
        match app.store.listener(replicas::CHANNEL).await {
            Ok(mut listener) => {
                if let Err(refusal) = catch_up(app).await {
                    refusal.log("replica_not_caught_up");
                    tokio::time::sleep(BEAT).await;
                    continue;
                }
                loop {
                    match listener.try_recv().await {
                        Ok(Some(heard)) => hear(app, heard.payload()).await,
                        Ok(None) => break,
                        Err(error) => {
                            Refusal::from(error).log("replica_not_listening");
                            break;
                        }
                    }
                }
            }
            Err(error) => Refusal::from(error).log("replica_not_listening"),
        }
        tokio::time::sleep(BEAT).await;
    }
}

async fn catch_up(app: &App) -> Result<(), Refusal> {
    let head = app.store.events_head().await?;
    app.raise_events(head);
    app.claims.send_modify(|turn| *turn = turn.wrapping_add(1));
    app.hub.announce_all();
    Ok(())
}

async fn hear(app: &App, payload: &str) {
    match serde_json::from_str(payload) {
        Ok(Message::Event(seq)) => app.raise_events(seq),
        Ok(Message::Claim) => app.claims.send_modify(|turn| *turn = turn.wrapping_add(1)),
        Ok(Message::Arrived(devices)) => {
            for (device, connection) in devices {
                app.hub.heard(&device, connection);
            }
        }
        Ok(Message::Device(device, connection, sealed)) => {
            if app.peers.is_elsewhere(connection) {
                return;
            }
            let message = secret::decode(&sealed)
                .and_then(|sealed| unseal(app, connection, &sealed))
                .and_then(|bytes| ClaimMessage::from_bytes(&bytes));
            let Some(message) = message else {
                tracing::error!(event = "peer_message_unreadable");
                return;
            };
            let granted = matches!(message, ClaimMessage::Granted(_));
            if !app.hub.send(&device, connection, message) && granted {
                // Whoever sent it could not know that the device has just gone.
                if let Err(refusal) = claim::undelivered(app, &device, connection).await {
                    refusal.log("claim_not_undone");
                }
            }
        }
        Err(_) => tracing::error!(event = "peer_message_unreadable"),
    }
}

/// Tells the others who came, and the database who is where.
async fn announce(app: &App) {
    loop {
        let moves = app.hub.moves().await;
        for some in moves.chunks(ANNOUNCED) {
            while let Err(refusal) = announce_some(app, some).await {
                refusal.log("presence_not_written");
                tokio::time::sleep(BEAT).await;
            }
        }
    }
}

async fn announce_some(app: &App, moves: &[(String, Move)]) -> Result<(), Refusal> {
    let (mut came, mut went) = (Vec::new(), Vec::new());
    for (device, one) in moves {
        match one {
            Move::Arrived(connection) => came.push((device.clone(), *connection)),
            Move::Left(connection) => went.push((device, *connection)),
        }
    }
    // Alone: replicas that write the same devices in another order would wait for each other.
    let mut tx = app.store.write().await?;
    if !went.is_empty() {
        replicas::left(&mut tx, &serde_json::json!(went).to_string()).await?;
    }
    if !came.is_empty() {
        replicas::arrived(&mut tx, &serde_json::json!(came).to_string()).await?;
        let message = serde_json::to_string(&Message::Arrived(came)).unwrap_or_default();
        replicas::notify(&mut tx, &message).await?;
    }
    Ok(tx.commit().await?)
}

fn key(key: &secret::Key) -> XChaCha20Poly1305 {
    let bytes = Zeroizing::new(key.hmac(&[b"between replicas"]));
    XChaCha20Poly1305::new((&*bytes).into())
}

fn seal(app: &App, connection: i64, message: &[u8]) -> Vec<u8> {
    let nonce = secret::random_bytes::<24>();
    let payload = Payload { msg: message, aad: &connection.to_be_bytes() };
    let sealed = key(app.keys.key(Purpose::ClientSecret))
        .encrypt(XNonce::from_slice(&nonce), payload)
        .expect("a message of a few bytes is not too long for the cipher");
    [nonce.as_slice(), &sealed].concat()
}

fn unseal(app: &App, connection: i64, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_at_checked(24)?;
    let aad = &connection.to_be_bytes();
    app.keys.keys(Purpose::ClientSecret).find_map(|one| {
        let payload = Payload { msg: sealed, aad };
        key(one).decrypt(XNonce::from_slice(nonce), payload).ok().map(Zeroizing::new)
    })
}
