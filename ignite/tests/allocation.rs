//! A message that passes the gateway takes nothing from the allocator.
//!
//! The gateway's connections have threads of their own, the clients and the DIdP of this test run on the test's, the PCM is another
//! process: so what is counted on other threads than the test's is what the relay allocates.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]
#![allow(unsafe_code, reason = "an allocator that counts is an allocator")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use common::client::{Client, publish};
use common::{Stack, app_detail, until};
use mqtt_wire::{Packet, Properties, Property, QoS, Version};
use serde_json::json;

struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The test's own thread is not counted.
    static IS_COUNTED: Cell<bool> = const { Cell::new(true) };
}

impl Counting {
    fn count() {
        if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
            COUNT.fetch_add(1, Ordering::SeqCst);
        }
    }
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Messages before counting, so that buffers have the size that they need, and while counting.
const MESSAGES: (u16, u16) = (20, 100);
/// What a message allocates shows in every round; what else happens, a connection to the DIdP that is closed after a while, does not.
const ROUNDS: usize = 3;

struct Pair {
    device: Client,
    app: Client,
    handle: String,
}

impl Pair {
    async fn connect(stack: &Stack, version: Version) -> Self {
        let owner = format!("owner-{version:?}");
        let (device_sid, app_sid) = (format!("d-{version:?}"), format!("a-{version:?}"));
        let details = json!([app_detail("label1", &["read", "command"])]);
        let app_token = stack.didp.add_app(&owner, &app_sid, details);
        let device_token = stack.didp.add_device(&owner, &device_sid, "label1");
        let (mut app, mut device) = (stack.connect().await, stack.connect().await);
        app.log_in(version, "app", &app_token).await;
        device.log_in(version, "device", &device_token).await;
        assert_eq!(app.subscribe(1, &["d/#"]).await, [2]);
        assert_eq!(device.subscribe(1, &["c/#"]).await, [2]);
        device.publish(QoS::AtMostOnce, 0, "d/temperature", b"first").await;
        let topic = app.message().await.topic;
        let handle = topic.split('/').nth(1).unwrap().to_owned();
        Self { device, app, handle }
    }

    /// A reading and a command, each with its acknowledgement.
    async fn exchange(&mut self, qos: QoS, id: u16, said: Properties<'_>) {
        let command = format!("c/{}/heater", self.handle);
        let payload = [b'x'; 100];
        for from_device in [true, false] {
            let (from, to, topic) = match from_device {
                true => (&mut self.device, &mut self.app, "d/temperature"),
                false => (&mut self.app, &mut self.device, command.as_str()),
            };
            from.send(&publish(qos, id, topic, &payload, said)).await;
            assert_eq!(to.message().await.payload, payload);
            if qos == QoS::AtLeastOnce {
                assert_eq!(from.puback(id).await, 0);
            }
        }
    }

    async fn exchange_many(&mut self, count: u16, qos: QoS, said: Properties<'_>) {
        for id in 1..=count {
            self.exchange(qos, id, said).await;
        }
        // The last acknowledgement has gone through as well.
        self.device.ping().await;
        self.app.ping().await;
    }

    async fn allocations(&mut self, qos: QoS, said: Properties<'_>) -> u64 {
        self.exchange_many(MESSAGES.0, qos, said).await;
        let before = COUNT.load(Ordering::SeqCst);
        self.exchange_many(MESSAGES.1, qos, said).await;
        COUNT.load(Ordering::SeqCst) - before
    }
}

/// Both directions, QoS 0 and 1, with topics translated; in MQTT 5 with properties of all kinds, a Response Topic among them.
#[tokio::test]
async fn a_message_takes_nothing_from_the_allocator() {
    IS_COUNTED.set(false);
    let stack = Stack::start().await;
    for version in [Version::V311, Version::V5] {
        let mut pair = Pair::connect(&stack, version).await;
        // Whatever else the start has set going is done.
        until("the gateway is quiet", async || {
            let before = COUNT.load(Ordering::SeqCst);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            COUNT.load(Ordering::SeqCst) == before
        })
        .await;
        let before = COUNT.load(Ordering::SeqCst);
        // What the test does itself is not counted, what the gateway does for a newcomer is.
        drop(vec![0_u8; 100]);
        assert_eq!(COUNT.load(Ordering::SeqCst), before);
        let said = [
            Property::MessageExpiryInterval(100),
            Property::ContentType("text/plain"),
            Property::CorrelationData(b"7"),
            Property::UserProperty("unit", "K"),
        ];
        let said = if version == Version::V5 { &said[..] } else { &[] };
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut counts = Vec::new();
            for _ in 0..ROUNDS {
                counts.push(pair.allocations(qos, Properties::list(said)).await);
            }
            assert!(
                counts.contains(&0),
                "{counts:?} allocations for {} messages, {version:?} {qos:?}",
                2 * MESSAGES.1
            );
        }
    }
    let before = COUNT.load(Ordering::SeqCst);
    let mut other = stack.connect().await;
    other.send(&Packet::Connect(common::client::bearer(Version::V5, "c", "demo.nobody"))).await;
    other.connack().await;
    assert!(COUNT.load(Ordering::SeqCst) > before, "a newcomer is counted, so that counting works");
}
