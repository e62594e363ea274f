"""Drives a paho-mqtt client by JSON lines: one command in, one answer out, messages in between."""

import json
import queue
import ssl
import sys
import threading

import paho.mqtt.client as mqtt

out = threading.Lock()
answers = queue.Queue()
client = None


def say(line):
    with out:
        print(json.dumps(line), flush=True)


def code(reason):
    return reason.value if hasattr(reason, "value") else int(reason)


def connect(command):
    global client
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        protocol=mqtt.MQTTv5 if command["version"] == 5 else mqtt.MQTTv311,
        transport="websockets" if command["websocket"] else "tcp",
        reconnect_on_failure=False,
    )
    if command["websocket"]:
        client.ws_set_options(path="/mqtt")
    if command["ca"]:
        client.tls_set(ca_certs=command["ca"], tls_version=ssl.PROTOCOL_TLS_CLIENT)
    client.username_pw_set(command["username"], command["password"])
    client.on_connect = lambda _c, _u, _f, reason, _p: answers.put(code(reason))
    client.on_subscribe = lambda _c, _u, _m, reasons, _p: answers.put(code(reasons[0]))
    client.on_publish = lambda _c, _u, _m, reason, _p: answers.put(code(reason))
    client.on_message = lambda _c, _u, m: say({"message": {"topic": m.topic, "payload": m.payload.decode()}})
    client.connect(command["host"], command["port"])
    client.loop_start()


def main():
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "connect":
            connect(command)
        elif command["do"] == "subscribe":
            client.subscribe(command["filter"], qos=1)
        else:
            client.publish(command["topic"], command["payload"], qos=1)
        say({"code": answers.get(timeout=10)})


main()
