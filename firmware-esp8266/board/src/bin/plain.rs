//! What OAuthing is measured against: a plain MQTT 3.1.1 client over the same TLS on the same board, with a fixed user name
//! and password and the same subscription and readings, and nothing of a device's life.
//!
//! Its flash holds a record like the thermostat's, whose gateway is the broker and whose access token is the password.
#![no_std]
#![no_main]

use core::mem::MaybeUninit;

use board::emulated::Emulated;
use device_client::Record;
use device_client::text::Text;
use device_link::{Board as _, Event, Input, Link, Records};
use mqtt_wire::{
    Connect, Disconnect, Filters, Packet, Properties, Publish, QoS, ReasonCode, Subscribe, Subscription,
    Version, frame_len,
};

const VERSION: Version = Version::V311;
const KEEP_ALIVE: u16 = 60;
const KEEP_ALIVE_MS: u64 = 1000 * KEEP_ALIVE as u64;

static mut RECORDS: Records = Records::new();
static mut BOARD: MaybeUninit<Emulated> = MaybeUninit::uninit();
static mut OUT: [u8; 768] = [0; 768];
static mut IN: [u8; 1536] = [0; 1536];

/// Called once by `start.S`; what it returns is how the emulator ends.
#[unsafe(no_mangle)]
extern "C" fn firmware() -> u32 {
    let board = board();
    let Some(record) = board.record() else { return 3 };
    let code = live(board, &record).map_or_else(|code| code, |()| 0);
    board.tell_counters();
    code
}

#[inline(never)]
fn board() -> &'static mut Emulated {
    // SAFETY: called once, by `firmware`.
    unsafe { (*(&raw mut BOARD)).write(Emulated::new()) }
}

/// Until `stop`, or until the broker goes; where it failed, if it did.
fn live(board: &mut Emulated, record: &Record) -> Result<(), u32> {
    let grant = record.grant().ok_or(4u32)?;
    // SAFETY: nobody else has them, and this is called once.
    let (records, out, incoming) =
        unsafe { (&mut *(&raw mut RECORDS), &mut *(&raw mut OUT), &mut *(&raw mut IN)) };
    let link = Link::new(board);
    let mut open = link.open(&grant.gateway, records).map_err(|_| 5u32)?;
    let connect = Packet::Connect(Connect {
        version: VERSION,
        clean_start: false,
        keep_alive: KEEP_ALIVE,
        properties: Properties::EMPTY,
        client_id: "device",
        will: None,
        username: Some("Bearer"),
        password: Some(grant.access_token.as_str().as_bytes()),
    });
    send(&mut open, out, &connect)?;
    let mut have = 0;
    let (mut running, mut kept) = (false, false);
    // Asked for a sign of life when the broker has been silent for so long, as the thermostat does it.
    let mut ping_at = u64::MAX;
    loop {
        let taken = open.offer(|bytes| {
            let taken = bytes.len().min(incoming.len() - have);
            incoming[have..have + taken].copy_from_slice(&bytes[..taken]);
            have += taken;
            taken
        });
        if taken.map_err(|_| 6u32)? && running {
            ping_at = link.board().now() + KEEP_ALIVE_MS;
        }
        while let Some(total) = frame_len(&incoming[..have], incoming.len()).map_err(|_| 7u32)? {
            match Packet::decode(&incoming[..total], VERSION).map_err(|_| 8u32)? {
                Packet::ConnAck(ack) if ack.reason == ReasonCode::SUCCESS => {
                    let filters =
                        ["c/#", "s/delta"].map(|filter| Subscription::new(filter, QoS::AtLeastOnce));
                    let subscribe = Packet::Subscribe(Subscribe {
                        packet_id: 1,
                        properties: Properties::EMPTY,
                        filters: Filters::list(&filters),
                    });
                    send(&mut open, out, &subscribe)?;
                    running = true;
                    ping_at = link.board().now() + KEEP_ALIVE_MS;
                    board::console::line(&["phase running"]);
                }
                Packet::PubAck(_) if kept => {
                    kept = false;
                    board::console::line(&["delivered"]);
                }
                Packet::SubAck(_) | Packet::PingResp | Packet::Publish(_) => {}
                _ => return Err(9),
            }
            incoming.copy_within(total..have, 0);
            have -= total;
        }
        let mut board = link.board();
        let mut publish = None;
        match board.wait(running.then_some(ping_at), true) {
            Event::Input(Input::Stop) => break,
            Event::Input(Input::Publish { channel, payload, retain, at_least_once }) if running => {
                publish = reading(out, channel, payload, retain, at_least_once);
                kept |= at_least_once;
            }
            Event::Readable => {
                drop(board);
                open.fill().map_err(|_| 10u32)?;
                continue;
            }
            Event::Input(_) | Event::Time => {}
        }
        let now = board.now();
        if publish.is_none() && running && now >= ping_at {
            ping_at = now + KEEP_ALIVE_MS;
            publish = Packet::PingReq.encode(VERSION, out).ok();
        }
        drop(board);
        if let Some(len) = publish {
            all(&mut open, &out[..len])?;
        }
    }
    send(&mut open, out, &Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)))?;
    open.close();
    Ok(())
}

fn reading(
    out: &mut [u8],
    channel: &str,
    payload: &[u8],
    retain: bool,
    at_least_once: bool,
) -> Option<usize> {
    let mut topic = Text::<80>::EMPTY;
    if !topic.push("d/") || !topic.push(channel) {
        return None;
    }
    let packet = Packet::Publish(Publish {
        dup: false,
        qos: if at_least_once { QoS::AtLeastOnce } else { QoS::AtMostOnce },
        retain,
        topic: topic.as_str(),
        packet_id: at_least_once.then_some(2),
        properties: Properties::EMPTY,
        payload,
    });
    packet.encode(VERSION, out).ok()
}

type Open<'l, 'a, 'r> = device_link::Connection<'l, 'a, 'r, Emulated>;

fn send(open: &mut Open<'_, '_, '_>, out: &mut [u8], packet: &Packet<'_>) -> Result<(), u32> {
    let len = packet.encode(VERSION, out).map_err(|_| 11u32)?;
    all(open, &out[..len])
}

fn all(open: &mut Open<'_, '_, '_>, mut bytes: &[u8]) -> Result<(), u32> {
    while !bytes.is_empty() {
        bytes = &bytes[open.send(bytes).map_err(|_| 12u32)?..];
    }
    Ok(())
}
