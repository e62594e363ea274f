//! Aliases towards the client, properties, reason strings.

use super::*;

/// Design §7: topic aliases are resolved on each hop. Towards the client, too: the first topics get those that it takes.
#[test]
fn topic_aliases_are_set_on_the_clients_hop() {
    let mut exchange = app(Version::V5);
    exchange.terms.aliases = 1;
    let topic = format!("d/{LABEL}/temperature");
    let delivered = format!("d/{}/temperature", handle());
    let alias = [Property::TopicAlias(1)];
    let said = [Property::UserProperty("unit", "K"), Property::TopicAlias(1)];
    let (sets, by) = (Properties::list(&alias), Properties::list(&said));
    assert_eq!(pcm(&mut exchange, &plain(QoS::AtMostOnce, 0, &topic), Version::V5), Step::Continue);
    let unit = publish(QoS::AtLeastOnce, 7, &topic, Properties::list(&said[..1]));
    assert_eq!(pcm(&mut exchange, &unit, Version::V5), Step::Continue);
    // The shadow comes too late for an alias.
    assert_eq!(
        pcm(&mut exchange, &plain(QoS::AtMostOnce, 0, &format!("s/{LABEL}")), Version::V5),
        Step::Continue
    );
    V5.expects(
        &mut exchange.to_client,
        &[
            publish(QoS::AtMostOnce, 0, &delivered, sets),
            publish(QoS::AtLeastOnce, 7, "", by),
            plain(QoS::AtMostOnce, 0, &format!("s/{}", handle())),
        ],
    );
}

/// Checklist 39 with aliases: what is named by an alias is judged by what the alias stands for, and an alias whose setting was
/// left out is set anew.
#[test]
fn an_alias_outlives_the_grant_no_more_than_a_topic_does() {
    let mut exchange = app(Version::V5);
    exchange.terms.aliases = 4;
    let topic = format!("d/{LABEL}/temperature");
    for _ in 0..2 {
        assert_eq!(pcm(&mut exchange, &plain(QoS::AtMostOnce, 0, &topic), Version::V5), Step::Continue);
    }
    let before = Arc::clone(exchange.grant());
    exchange.aside(|exchange, out| exchange.replace_grant(narrowed(Version::V5), out));
    V5.expects(&mut exchange.to_client, &[]);
    exchange.aside(|exchange, out| exchange.replace_grant(before, out));
    assert_eq!(pcm(&mut exchange, &plain(QoS::AtMostOnce, 0, &topic), Version::V5), Step::Continue);
    let alias = [Property::TopicAlias(1)];
    let delivered = format!("d/{}/temperature", handle());
    V5.expects(&mut exchange.to_client, &[publish(QoS::AtMostOnce, 0, &delivered, Properties::list(&alias))]);
}

/// MQTT 5 §3.3.2.3: everything that belongs to the message goes with it, in both directions.
#[test]
fn every_property_of_a_message_is_relayed() {
    let of_the_message = [
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(60),
        Property::ContentType("application/json"),
        Property::CorrelationData(b"\0\xff"),
        Property::UserProperty("a", "1"),
        Property::UserProperty("a", "2"),
    ];
    let alias = [&of_the_message[..], &[Property::TopicAlias(2)]].concat();
    let up = publish(QoS::ExactlyOnce, 9, "d/temperature", Properties::list(&alias));
    let theirs = format!("d/{LABEL}/temperature");
    let relayed = publish(QoS::ExactlyOnce, 9, &theirs, Properties::list(&of_the_message));
    let mut device = device(Version::V5);
    assert_eq!(client(&mut device, &up, Version::V5), Step::Continue);
    V5.expects(&mut device.to_pcm, &[relayed]);

    let mut app = app(Version::V5);
    app.terms.client_packet = 1_000;
    let identified = [&of_the_message[..], &[1, 268_435_455].map(Property::SubscriptionIdentifier)].concat();
    let down = publish(QoS::AtLeastOnce, 3, &theirs, Properties::list(&identified));
    assert_eq!(pcm(&mut app, &down, Version::V5), Step::Continue);
    let delivered = format!("d/{}/temperature", handle());
    V5.expects(
        &mut app.to_client,
        &[publish(QoS::AtLeastOnce, 3, &delivered, Properties::list(&identified))],
    );
}

/// MQTT 5 §3.1.2.11.7: a refusal is said in words to a client that wants them, in a packet that it takes.
#[test]
fn refusals_have_words_if_the_client_wants_them() {
    for (words, longest, expected) in [(true, 200, true), (false, 200, false), (true, 20, false)] {
        let mut exchange = app(Version::V5);
        (exchange.terms.words, exchange.terms.client_packet) = (words, longest);
        let text = [Property::ReasonString("the grant does not cover this")];
        let properties = if expected { Properties::list(&text) } else { Properties::EMPTY };
        let refused = Ack { properties, ..Ack::new(1, ReasonCode::NOT_AUTHORIZED) };
        client(&mut exchange, &plain(QoS::AtLeastOnce, 1, "elsewhere"), Version::V5);
        client(&mut exchange, &plain(QoS::ExactlyOnce, 1, "elsewhere"), Version::V5);
        pcm(&mut exchange, &Packet::PubAck(Ack::new(1, ReasonCode::NOT_AUTHORIZED)), Version::V5);
        let wishes = [Subscription::new("elsewhere", QoS::AtMostOnce)];
        let filters = Filters::list(&wishes);
        let subscribe = Subscribe { packet_id: 1, properties: Properties::EMPTY, filters };
        client(&mut exchange, &Packet::Subscribe(subscribe), Version::V5);
        V5.expects(
            &mut exchange.to_client,
            &[
                Packet::PubAck(refused),
                Packet::PubRec(refused),
                Packet::PubAck(refused),
                Packet::SubAck(SubAck { packet_id: 1, properties, codes: &[0x87] }),
            ],
        );
    }
}
