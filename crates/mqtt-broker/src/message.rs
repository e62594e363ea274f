//! Application messages on their way: as they came in, as they are kept, as they go out.

use mqtt_wire::{Packet, Properties, Property, Publish, QoS, Version};
use std::cell::{Cell, OnceCell};
use std::rc::Rc;

/// What is passed on of a message, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    /// Encoded properties that are passed on unchanged (§3.3.2.3).
    pub(crate) properties: &'a [u8],
    /// When it must not be delivered any more, in milliseconds.
    pub(crate) expires_at: Option<u64>,
}

/// A message that is kept: queued, in flight, retained, or a will.
pub(crate) struct Message {
    topic: Box<str>,
    payload: Box<[u8]>,
    properties: Box<[u8]>,
    pub(crate) expires_at: Option<u64>,
    /// The grant it was published under.
    pub(crate) sid: Option<Rc<str>>,
    /// What stands for it in the journal's records; 0 if nothing does.
    pub(crate) number: Cell<u64>,
}

impl Message {
    pub(crate) fn new(content: Content<'_>, sid: Option<&Rc<str>>) -> Message {
        Message {
            topic: content.topic.into(),
            payload: content.payload.into(),
            properties: content.properties.into(),
            expires_at: content.expires_at,
            sid: sid.cloned(),
            number: Cell::new(0),
        }
    }

    /// Becomes another message of the same topic, in the same memory as far as it fits.
    fn become_next(&mut self, content: Content<'_>, sid: Option<&Rc<str>>) {
        debug_assert_eq!(*self.topic, *content.topic, "memory is for one topic");
        let put = |place: &mut Box<[u8]>, bytes: &[u8]| {
            if place.len() == bytes.len() {
                place.copy_from_slice(bytes);
            } else {
                *place = bytes.into();
            }
        };
        put(&mut self.payload, content.payload);
        put(&mut self.properties, content.properties);
        self.expires_at = content.expires_at;
        if self.sid.as_ref() != sid {
            self.sid = sid.cloned();
        }
        self.number.set(0);
    }

    pub(crate) fn content(&self) -> Content<'_> {
        Content {
            topic: &self.topic,
            payload: &self.payload,
            properties: &self.properties,
            expires_at: self.expires_at,
        }
    }

    /// What it costs to keep it, in bytes, bookkeeping included.
    pub(crate) fn cost(&self) -> usize {
        self.content().cost()
    }

    pub(crate) fn is_expired(&self, now: u64) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

impl Content<'_> {
    pub(crate) fn cost(&self) -> usize {
        const BOOKKEEPING: usize = 128;
        self.topic.len() + self.payload.len() + self.properties.len() + BOOKKEEPING
    }
}

/// A message that is being routed: copied at most once, and only if somebody must wait for it.
pub(crate) struct Routed<'a> {
    pub(crate) content: Content<'a>,
    pub(crate) sid: Option<&'a Rc<str>>,
    kept: OnceCell<Rc<Message>>,
}

impl<'a> Routed<'a> {
    pub(crate) fn new(content: Content<'a>, sid: Option<&'a Rc<str>>) -> Routed<'a> {
        Routed { content, sid, kept: OnceCell::new() }
    }

    pub(crate) fn of(message: &'a Rc<Message>) -> Routed<'a> {
        let kept = OnceCell::new();
        let _first = kept.set(Rc::clone(message));
        Routed { content: message.content(), sid: message.sid.as_ref(), kept }
    }

    pub(crate) fn keep(&self) -> Rc<Message> {
        self.keep_in(None)
    }

    /// The same, in the memory of an earlier message of this topic that nobody else has.
    pub(crate) fn keep_in(&self, earlier: Option<Rc<Message>>) -> Rc<Message> {
        let again = |mut earlier: Rc<Message>| {
            Rc::get_mut(&mut earlier)?.become_next(self.content, self.sid);
            Some(earlier)
        };
        let make = || Rc::new(Message::new(self.content, self.sid));
        Rc::clone(self.kept.get_or_init(|| earlier.and_then(again).unwrap_or_else(make)))
    }
}

/// How a message goes out to one client.
#[derive(Clone, Copy)]
pub(crate) struct Envelope<'a> {
    pub(crate) qos: QoS,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    pub(crate) packet_id: Option<u16>,
    pub(crate) ids: &'a [u32],
}

/// Appends the PUBLISH to `out`, unless it is longer than `max` bytes. Answers whether it was. With an alias the topic may
/// be empty.
pub(crate) fn encode(
    content: Content<'_>,
    envelope: Envelope<'_>,
    alias: Option<u16>,
    version: Version,
    max: usize,
    now: u64,
    out: &mut Vec<u8>,
) -> bool {
    let expiry = content.expires_at.map(|at| Property::MessageExpiryInterval(seconds_until(at, now)));
    let ids = envelope.ids.iter().map(|id| Property::SubscriptionIdentifier(*id));
    let more: Vec<Property<'_>> = match version {
        Version::V5 => alias.map(Property::TopicAlias).into_iter().chain(expiry).chain(ids).collect(),
        Version::V31 | Version::V311 => Vec::new(),
    };
    let publish = Publish {
        dup: envelope.dup,
        qos: envelope.qos,
        retain: envelope.retain,
        topic: content.topic,
        packet_id: envelope.packet_id,
        properties: Properties::joined(content.properties, &more),
        payload: content.payload,
    };
    let start = out.len();
    if Packet::Publish(publish).encode_into(version, out).is_err() {
        return false;
    }
    if out.len() - start > max {
        out.truncate(start);
        return false;
    }
    true
}

/// Whole seconds from now on, rounded up, so that a fresh interval is passed on as it came.
fn seconds_until(at: u64, now: u64) -> u32 {
    u32::try_from(at.saturating_sub(now).div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// When something that lasts so many seconds ends.
pub(crate) fn after(now: u64, seconds: u32) -> u64 {
    now.saturating_add(u64::from(seconds) * 1_000)
}

/// The properties of a PUBLISH or will that go on to subscribers, encoded; the message expiry interval, which is
/// counted down, is not among them.
pub(crate) fn passed_on(properties: &Properties<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    if !properties.is_empty() {
        let keep = |property: &Property<'_>| {
            matches!(
                property,
                Property::PayloadFormatIndicator(_)
                    | Property::ContentType(_)
                    | Property::ResponseTopic(_)
                    | Property::CorrelationData(_)
                    | Property::UserProperty(..)
            )
        };
        if properties.encode_where(keep, &mut out).is_err() {
            out.clear();
        }
    }
    out
}
