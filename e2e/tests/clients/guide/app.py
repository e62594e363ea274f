"""An app: shows each reading that its owners allow, and turns the heater on where it is colder than 20 degrees."""

import os
import ssl

import paho.mqtt.client as mqtt


def connected(client, _userdata, _flags, reason, _properties):
    if reason.is_failure:
        raise SystemExit(f"the gateway says: {reason}")
    client.subscribe("d/#", qos=1)  # everything that this token may see


def subscribed(_client, _userdata, _mid, _reasons, _properties):
    print("listening", flush=True)


def arrived(client, _userdata, message):
    text = message.payload.decode()
    print(message.topic, text, flush=True)
    _, handle, channel = message.topic.split("/", 2)
    if channel == "temperature" and float(text) < 20:
        client.publish(f"c/{handle}/heater", "true", qos=1)


app = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
app.username_pw_set("Bearer", os.environ["ACCESS_TOKEN"])
# CA_FILE: the authority that the gateway's operator names; without it, those that this system trusts.
app.tls_set(ca_certs=os.environ.get("CA_FILE"), tls_version=ssl.PROTOCOL_TLS_CLIENT)
app.on_connect, app.on_subscribe, app.on_message = connected, subscribed, arrived
app.connect(os.environ["GATEWAY_HOST"], int(os.environ["GATEWAY_PORT"]))
app.loop_forever()
