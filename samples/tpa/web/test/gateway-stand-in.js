/**
 * A stand-in for the app's server and the gateway, for tests of the page's connection: `/api/token`, `GET /v1/devices` and MQTT 5
 * over WebSocket, with the packets of mqtt.js's own codec. What a test wants to see stands in its public fields.
 */
import { EventEmitter, once } from 'node:events';
import { createServer } from 'node:http';
import mqttPacket from 'mqtt-packet';
import { WebSocketServer } from 'ws';

export class GatewayStandIn extends EventEmitter {
  tokens = [];
  asked = [];
  sessions = [];
  most = 0;
  life = 3600;
  noShadows = false;
  /** Each device's shadow, by its handle. */
  shadows = {};
  withdrawn = false;
  devices = [
    {
      handle: 'h1',
      ref: 'r1',
      title: 'Thermostat',
      channels: [
        { name: 'temperature', direction: 'data', type: 'number', unit: '°C' },
        { name: 'heater', direction: 'data', type: 'boolean' },
        { name: 'heater', direction: 'command', type: 'boolean' },
      ],
    },
  ];

  async listen(t) {
    this.server = createServer((request, response) => this.#http(request, response));
    const sockets = new WebSocketServer({ server: this.server, path: '/mqtt', handleProtocols: () => 'mqtt' });
    sockets.on('connection', (socket) => this.#session(socket));
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    this.origin = `http://127.0.0.1:${this.server.address().port}`;
    t.after(() => {
      for (const session of this.sessions) session.socket.terminate();
      this.server.close();
      this.server.closeAllConnections();
    });
    return this;
  }

  /** `fetch` as the page has it: relative addresses are the app's own. */
  fetch = (address, options) => fetch(new URL(address, this.origin), options);

  get token() {
    return this.tokens.at(-1);
  }

  async #http(request, response) {
    let body = '';
    for await (const chunk of request) body += chunk;
    const answer = (status, value) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (request.url === '/api/token') {
      this.asked.push(JSON.parse(body));
      if (this.withdrawn) return answer(410, { state: 'withdrawn' });
      this.tokens.push(`token-${this.tokens.length + 1}`);
      return answer(200, {
        access_token: this.token,
        expires_in: this.life,
        generation: this.tokens.length,
        gateway: { http: `${this.origin}/`, websocket: `${this.origin.replace('http', 'ws')}/mqtt` },
        devices: [{ ref: 'r1', name: 'Kitchen', actions: ['read', 'command'] }],
      });
    }
    if (request.headers.authorization !== `Bearer ${this.token}`) return answer(401, { error: 'invalid_token' });
    return answer(200, this.devices);
  }

  #session(socket) {
    const session = { socket, subscribed: false, open: true };
    const parser = mqttPacket.parser({ protocolVersion: 5 });
    session.send = (packet) => socket.send(mqttPacket.generate(packet, { protocolVersion: 5 }));
    socket.on('message', (bytes) => parser.parse(bytes));
    socket.on('close', () => {
      session.open = false;
      this.emit('closed', session);
    });
    this.sessions.push(session);
    this.most = Math.max(this.most, this.sessions.filter((one) => one.open).length);
    parser.on('packet', (packet) => this.#packet(session, packet));
  }

  #packet(session, packet) {
    if (packet.cmd === 'connect') {
      session.connect = packet;
      const good = packet.username === 'Bearer' && packet.password?.toString() === this.token;
      session.send({ cmd: 'connack', reasonCode: good ? 0 : 0x87, sessionPresent: false });
      if (!good) session.socket.close();
    } else if (packet.cmd === 'subscribe') {
      const shadows = packet.subscriptions[0].topic === 's/+';
      session.send({ cmd: 'suback', messageId: packet.messageId, granted: [shadows && this.noShadows ? 0x87 : 1] });
      if (shadows) {
        for (const [handle, state] of Object.entries(this.shadows)) session.send({ cmd: 'publish', topic: `s/${handle}`, payload: JSON.stringify(state), qos: 0, retain: true });
        return;
      }
      session.subscribed = true;
      this.emit('subscribed', session);
    } else if (packet.cmd === 'publish') {
      this.emit('command', { topic: packet.topic, payload: packet.payload.toString() });
      session.send({ cmd: 'puback', messageId: packet.messageId, reasonCode: this.refuseCommands ? 0x87 : 0 });
    }
  }

  /** A reading to every subscriber. */
  publish(topic, value) {
    for (const session of this.sessions.filter((one) => one.open && one.subscribed)) {
      session.send({ cmd: 'publish', topic, payload: JSON.stringify(value), qos: 0 });
    }
  }

  /** The gateway ends every session because its token is no good any more. */
  endSessions(reasonCode) {
    for (const session of this.sessions.filter((one) => one.open)) {
      session.send({ cmd: 'disconnect', reasonCode });
      session.socket.close();
    }
  }
}
