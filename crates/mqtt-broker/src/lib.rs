//! A pure MQTT broker core: sessions, topic tree, retained messages, router.
