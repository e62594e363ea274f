//! The personal cloud middleware: one owner's private MQTT broker.

fn main() {}
