//! Every bound of the broker in one place.

/// How much of everything a broker holds. What happens at a limit stands with each field.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; one more is closed at once.
    pub connections: usize,
    /// Open connections of one grant; one more is closed at once. Like everything here that is said of one grant, it
    /// binds only where sessions need grants.
    pub grant_connections: usize,
    /// Sessions, connected or not; a CONNECT that needs one more is refused with 0x97.
    pub sessions: usize,
    /// Sessions of one grant, connected or not; for one more, the one that has been disconnected longest ends (its will
    /// is due), and if all are connected the CONNECT is refused with 0x97.
    pub grant_sessions: usize,
    /// One grant may hold one part in so many of [`Self::queue_bytes`] and [`Self::lenses`] (the grant that is to receive), of
    /// [`Self::retained_messages`] and of [`Self::retained_bytes`] (the grant that published). Beyond its part the
    /// same happens as beyond the whole, to its messages only.
    pub grant_share: usize,
    /// Subscriptions of one session; one more is refused with 0x97 (3.1.1: 0x80).
    pub subscriptions: usize,
    /// Messages waiting for one session. QoS 0 gives way first; then the newest is dropped, and its publisher gets 0x97
    /// if nobody else took it.
    pub queue_messages: usize,
    /// Bytes waiting in all queues together; as above.
    pub queue_bytes: usize,
    /// Retained messages; one more is delivered, not retained, and answered with 0x97.
    pub retained_messages: usize,
    /// Bytes of all retained messages, and 256 for each further level of their topics; as above.
    pub retained_bytes: usize,
    /// Channels with a filter or summary, counted for each grant and for a shadow apart; of one more nothing is shown, and it
    /// counts as dropped.
    pub lenses: usize,
    /// Longest packet that is taken, in bytes; a longer one ends the connection with 0x95.
    pub packet: usize,
    /// Bytes encoded for a connection and not yet written, from which on messages are queued instead and nothing more
    /// is read from it. One packet may go beyond.
    pub output: usize,
    /// Receive maximum announced to clients: QoS 2 messages that they may have open; one more ends the connection with
    /// 0x93.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages sent to one client and not yet acknowledged, if its own receive maximum is not lower; more
    /// wait in its queue.
    pub in_flight: u16,
    /// Topic aliases that a client may set, a higher one ends the connection with 0x94; and as many that it is given, if it
    /// takes them: topics beyond are sent in full.
    pub topic_aliases: u16,
    /// Longest keep alive of an MQTT 5 client, in seconds: one that wishes for a longer one, or none, is told this one
    /// (§3.2.2.3.14). 0 if everybody may be silent for as long as he likes.
    pub keep_alive: u16,
    /// Levels of a topic name or filter; more are refused with 0x90 or 0x8F.
    pub topic_levels: usize,
    /// Longest time that a session outlives its connection, in seconds; a longer wish is cut to it.
    pub session_expiry: u32,
    /// From the end of the last control connection on, in milliseconds, unless grants come by a new one: then the
    /// grants and everything kept under them are forgotten, because a revocation could not have been told.
    pub unattended_ms: u64,
    /// From accepting a connection to the end of its CONNECT, in milliseconds; then it is closed.
    pub handshake_ms: u64,
    /// From the first byte of a later packet to its last, in milliseconds; then the connection ends with 0x8D. While the
    /// broker itself does not read, see [`Self::output`], the time stands still.
    pub packet_ms: u64,
    /// How long a client may take no byte of what is to be written to it, in milliseconds; then the connection ends.
    pub stall_ms: u64,
}

const DAY: u32 = 24 * 60 * 60;

impl Limits {
    /// One grant's part of a limit.
    pub(crate) const fn grants_part(&self, limit: usize) -> usize {
        match limit.checked_div(self.grant_share) {
            Some(part) => part,
            None => limit,
        }
    }

    /// For one owner's private broker.
    pub const PERSONAL: Limits = Limits {
        connections: 256,
        grant_connections: 64,
        sessions: 256,
        grant_sessions: 32,
        grant_share: 4,
        subscriptions: 100,
        queue_messages: 1_000,
        queue_bytes: 8 << 20,
        retained_messages: 2_000,
        retained_bytes: 4 << 20,
        lenses: 2_000,
        packet: 256 << 10,
        output: 64 << 10,
        receive_maximum: 32,
        in_flight: 64,
        topic_aliases: 10,
        // Only its gateway connects to it, which sees for itself who is silent.
        keep_alive: 0,
        topic_levels: 32,
        session_expiry: 7 * DAY,
        unattended_ms: 300_000,
        handshake_ms: 10_000,
        packet_ms: 30_000,
        stall_ms: 60_000,
    };

    /// For a plain broker that has a machine's memory.
    pub const PLAIN: Limits = Limits {
        connections: 10_000,
        grant_connections: 10_000,
        sessions: 20_000,
        grant_sessions: 20_000,
        grant_share: 1,
        subscriptions: 10_000,
        queue_messages: 10_000,
        queue_bytes: 256 << 20,
        retained_messages: 100_000,
        retained_bytes: 256 << 20,
        lenses: 2_000,
        packet: 16 << 20,
        output: 256 << 10,
        receive_maximum: 1_000,
        in_flight: 1_000,
        topic_aliases: 10,
        // A minute, as test brokers are set up to answer who wishes for two.
        keep_alive: 60,
        // Two hundred slashes, which is where other brokers end.
        topic_levels: 201,
        session_expiry: 7 * DAY,
        unattended_ms: 300_000,
        handshake_ms: 10_000,
        packet_ms: 60_000,
        stall_ms: 60_000,
    };
}
