import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import mqtt from 'mqtt';
import { GatewayConnection } from '../gateway.js';
import { GatewayStandIn } from './gateway-stand-in.js';

/** Timers that a test fires itself. */
class Timers {
  time = 0;
  /** What passes between two looks at the clock; sessions are long-lived unless a test says otherwise. */
  step = 60_000;
  #pending = new Map();
  #next = 1;
  set = (callback, milliseconds) => {
    this.#pending.set(this.#next, { callback, milliseconds });
    return this.#next++;
  };
  now = () => (this.time += this.step);
  clear = (id) => this.#pending.delete(id);
  get pauses() {
    return [...this.#pending.values()].map((one) => one.milliseconds);
  }
  fire() {
    const [id, { callback }] = this.#pending.entries().next().value;
    this.#pending.delete(id);
    callback();
  }
}

async function connection(t, change = () => {}) {
  const standIn = await new GatewayStandIn().listen(t);
  change(standIn);
  const timers = new Timers();
  let clients = 0;
  const gateway = new GatewayConnection({
    connect: mqtt.connect,
    fetch: standIn.fetch,
    setTimeout: timers.set,
    clearTimeout: timers.clear,
    now: timers.now,
    clientId: () => `client-${++clients}`,
  });
  const states = [];
  const messages = [];
  gateway.addEventListener('state', ({ detail }) => states.push(detail));
  gateway.addEventListener('message', ({ detail }) => messages.push(`${detail.channel}=${new TextDecoder().decode(detail.payload)}`));
  const until = async (type, wanted) => {
    for (;;) {
      const [event] = await once(gateway, type, { signal: AbortSignal.timeout(10_000) });
      if (wanted === undefined || event.detail === wanted) return event.detail;
    }
  };
  return { standIn, timers, gateway, states, messages, until };
}

test('connects with the token, subscribes, and passes readings on', async (t) => {
  const { standIn, gateway, states, until } = await connection(t);
  const devices = until('devices');
  gateway.start();
  assert.deepEqual((await devices).map((device) => [device.handle, device.name, device.model]), [['h1', 'Kitchen', 'Thermostat']]);
  assert.deepEqual(states, ['connecting', 'live']);
  const { username, password, protocolVersion } = standIn.sessions[0].connect;
  assert.deepEqual([username, password.toString(), protocolVersion], ['Bearer', 'token-1', 5]);
  const message = until('message');
  standIn.publish('d/h1/temperature', 21.5);
  const { handle, channel, payload } = await message;
  assert.deepEqual([handle, channel, new TextDecoder().decode(payload)], ['h1', 'temperature', '21.5']);
});

test('a renewal opens the new connection before it closes the old one, and no reading is missed', async (t) => {
  const { standIn, timers, gateway, states, messages, until } = await connection(t, (one) => (one.life = 60));
  gateway.start();
  await until('state', 'live');
  assert.deepEqual(timers.pauses, [60 * 667]);
  const closed = once(standIn, 'closed');
  const subscribed = once(standIn, 'subscribed');
  timers.fire();
  await subscribed;
  standIn.publish('d/h1/temperature', 1);
  const [old] = await closed;
  standIn.publish('d/h1/temperature', 2);
  while (!messages.includes('temperature=2')) await until('message');
  assert.ok(messages.includes('temperature=1'));
  assert.equal(old, standIn.sessions[0]);
  assert.equal(standIn.most, 2, 'both were open for a moment');
  assert.deepEqual(states, ['connecting', 'live', 'live'], 'the page never said that it was away');
  assert.notEqual(standIn.sessions[0].connect.clientId, standIn.sessions[1].connect.clientId);
});

test('a withdrawn access says so and stops', async (t) => {
  const { standIn, timers, gateway, states, until } = await connection(t);
  gateway.start();
  await until('state', 'live');
  standIn.withdrawn = true;
  const withdrawn = until('state', 'withdrawn');
  standIn.endSessions(0x87);
  await withdrawn;
  assert.deepEqual(standIn.asked, [{}, { refused: 1 }], 'it names the token that was refused');
  assert.deepEqual(states, ['connecting', 'live', 'connecting', 'withdrawn']);
  assert.deepEqual(timers.pauses, [], 'it does not try again');
});

test('a narrowed access connects again with what is left', async (t) => {
  const { standIn, gateway, until } = await connection(t);
  gateway.start();
  await until('state', 'live');
  standIn.devices = [];
  const empty = until('state', 'empty');
  standIn.endSessions(0x87);
  await empty;
  assert.equal(standIn.tokens.length, 2);
});

test('a gateway that went away is tried again with a growing pause', async (t) => {
  const { standIn, timers, gateway, states, until } = await connection(t);
  gateway.start();
  await until('state', 'live');
  // Its answers make no sense while it is being restarted.
  standIn.devices = undefined;
  standIn.endSessions(0x8b);
  await until('state', 'gateway_away');
  const pause = async () => {
    while (timers.pauses.length === 0) await until('state', 'gateway_away');
    return timers.pauses[0];
  };
  assert.equal(await pause(), 500);
  timers.fire();
  assert.equal(await pause(), 1000);
  standIn.devices = [{ handle: 'h1', ref: 'r1', channels: [{ name: 'temperature', direction: 'data' }] }];
  const live = until('state', 'live');
  gateway.hurry();
  await live;
  assert.equal(states.at(-1), 'live');
});

test('a device that the owner took away is gone after a look at the list, and the connection stays', async (t) => {
  const { standIn, gateway, states, until } = await connection(t);
  await gateway.refresh();
  gateway.start();
  await until('state', 'live');
  const [device] = standIn.devices;
  standIn.devices = [];
  const gone = until('devices');
  await gateway.refresh();
  assert.deepEqual(await gone, []);
  assert.equal(states.at(-1), 'empty');
  standIn.devices = [device, { ...device, handle: 'h2', ref: 'r2' }];
  const more = until('devices');
  await gateway.refresh();
  assert.equal((await more).length, 2);
  assert.equal(standIn.sessions.length, 1);
});

test('the first device that is let in makes a new, subscribed connection', async (t) => {
  const { standIn, gateway, until } = await connection(t);
  const { devices } = standIn;
  standIn.devices = [];
  gateway.start();
  await until('state', 'empty');
  assert.equal(standIn.sessions[0].subscribed, false);
  standIn.devices = devices;
  const live = until('state', 'live');
  await gateway.refresh();
  await live;
  assert.equal(standIn.sessions[1].subscribed, true);
});

test('a command tells whether the gateway let it through', async (t) => {
  const { standIn, gateway, until } = await connection(t);
  assert.equal(await gateway.command('h1', 'heater', true), false, 'nothing is connected yet');
  gateway.start();
  await until('state', 'live');
  const command = once(standIn, 'command');
  assert.equal(await gateway.command('h1', 'heater', true), true);
  assert.deepEqual(await command, [{ topic: 'c/h1/heater', payload: 'true' }]);
  standIn.refuseCommands = true;
  assert.equal(await gateway.command('h1', 'heater', false), false);
});

test('a gateway that ends each connection at once is not asked without a pause', async (t) => {
  const { standIn, timers, gateway, until } = await connection(t);
  timers.step = 0;
  for (const pause of [500, 1000, 2000]) {
    const live = until('state', 'live');
    if (pause === 500) gateway.start();
    else timers.fire();
    await live;
    const away = until('state', 'connecting');
    standIn.endSessions(0x87);
    await away;
    assert.ok(timers.pauses.includes(pause), `${timers.pauses}`);
  }
});

test('a shadow is read and written, and a gateway without shadows serves all the same', async (t) => {
  const { standIn, gateway, until } = await connection(t, (standIn) => {
    standIn.shadows.h1 = { version: 2, reported: { heater: false }, desired: {}, delta: {} };
  });
  const shadow = until('shadow');
  gateway.start();
  assert.deepEqual(await shadow, { handle: 'h1', state: standIn.shadows.h1 });
  const wish = once(standIn, 'command');
  assert.equal(await gateway.want('h1', { heater: true }), true);
  assert.deepEqual(await wish, [{ topic: 's/h1/desired', payload: '{"heater":true}' }]);

  const without = await connection(t, (standIn) => (standIn.noShadows = true));
  const heard = once(without.gateway, 'message');
  const live = without.until('state', 'live');
  without.gateway.start();
  await live;
  without.standIn.publish('d/h1/temperature', 21);
  await heard;
  assert.equal(await without.gateway.command('h1', 'heater', true), true);
});
