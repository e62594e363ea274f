//! What IGNITE and a PCM say to each other before and beside MQTT.
