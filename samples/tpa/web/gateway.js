/**
 * The connection to the owner's gateway: asks our server for a token, the gateway for the devices, subscribes, and stays
 * connected over the token's end. mqtt.js cannot re-authenticate a connection (MQTT 5 §4.12.1), so a renewal opens the new
 * connection first, waits until it is subscribed, and only then closes the old one: no reading is missed.
 *
 * Knows no page: it emits `state` (`connecting`, `live`, `empty`, `gateway_away`, `provider_away`, `withdrawn`,
 * `not_connected`), `devices`, `message` and `shadow`. What it needs of the world is passed in.
 */
import { joinDevices, parse, parseShadow, parseTopic } from './readings.js';

/** MQTT 5 reason codes that say the token is no good (any more). */
const BAD_CREDENTIALS = 0x86;
const NOT_AUTHORIZED = 0x87;

/** Pauses between tries to reach the gateway, in milliseconds. */
const BACK_OFF = { first: 500, longest: 8000 };

/** A connection that lived shorter is not replaced at once, lest a gateway that ends each one is asked without a pause. */
const SHORT_LIFE = 2000;

/** A refusal by our server or the gateway; `state` is what it means. */
class Stopped extends Error {
  constructor(state) {
    super(state);
    this.state = state;
  }
}

/** Whether there is anything to subscribe to. */
const mayRead = (devices) => devices.some((device) => device.readings.length > 0 || device.switches.some((one) => one.readable));

const isRefusal = (code) => code === BAD_CREDENTIALS || code === NOT_AUTHORIZED;

export class GatewayConnection extends EventTarget {
  #world;
  #current = null;
  #refused;
  #renewal;
  #retry;
  #pause = BACK_OFF.first;
  #attempt = 0;

  /**
   * @param {{connect: Function, fetch: typeof fetch, setTimeout: typeof setTimeout, clearTimeout: typeof clearTimeout,
   *   now: () => number, clientId: () => string}} world mqtt.js's `connect`, and the browser; `now` in milliseconds
   */
  constructor(world) {
    super();
    this.#world = world;
  }

  /** Begins; from then on it tries until the access is withdrawn. */
  start() {
    this.#emit('state', 'connecting');
    this.#establish();
  }

  /** Tries now instead of after the pause, for example because the network came back. */
  hurry() {
    if (this.#retry === undefined) return;
    this.#world.clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#pause = BACK_OFF.first;
    this.#establish();
  }

  /**
   * Asks the gateway anew which devices there are: an owner may have let one in, or taken one away, while the connection goes
   * on. Says nothing if that does not work; whoever waits for readings sees it.
   */
  async refresh() {
    const session = this.#current;
    if (!session) return;
    const devices = await this.#devices(session.access).catch(() => undefined);
    if (!devices || this.#current !== session) return;
    if (mayRead(devices) && !session.subscribed) return this.#establish();
    this.#emit('devices', devices);
    this.#emit('state', devices.length > 0 ? 'live' : 'empty');
  }

  /**
   * Sends a command.
   * @returns {Promise<boolean>} false if the gateway refused it or is away
   */
  command(handle, channel, value) {
    return this.#publish(`c/${handle}/${channel}`, value);
  }

  /**
   * Writes what is wanted to a device's shadow: it is kept for a device that is away.
   * @param {object} patch channels with the values that they are to have (a JSON merge patch)
   * @returns {Promise<boolean>} false if the gateway refused it or is away
   */
  want(handle, patch) {
    return this.#publish(`s/${handle}/desired`, patch);
  }

  #publish(topic, value) {
    const client = this.#current?.client;
    if (!client?.connected) return Promise.resolve(false);
    return new Promise((resolve) => {
      client.publish(topic, JSON.stringify(value), { qos: 1 }, (error, packet) => {
        resolve(!error && !(packet?.reasonCode >= 0x80));
      });
    });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** One way to a subscribed connection, which then replaces the current one if there is one. */
  async #establish() {
    const attempt = ++this.#attempt;
    this.#world.clearTimeout(this.#renewal);
    try {
      const access = await this.#token();
      const devices = await this.#devices(access);
      const session = await this.#open(access, devices);
      if (attempt !== this.#attempt) return session.end();
      const former = this.#current;
      this.#current = session;
      former?.end();
      this.#refused = undefined;
      this.#world.clearTimeout(this.#retry);
      this.#retry = undefined;
      this.#emit('devices', devices);
      this.#emit('state', devices.length > 0 ? 'live' : 'empty');
      // Well before the end, and after the half of the life at which our server renews.
      this.#renewal = this.#world.setTimeout(() => this.#establish(), Math.max(access.expires_in * 667, 1000));
    } catch (error) {
      if (attempt === this.#attempt) this.#failed(error);
    }
  }

  #failed(error) {
    const state = error instanceof Stopped ? error.state : 'gateway_away';
    if (state === 'withdrawn' || state === 'not_connected') {
      this.#current?.end();
      this.#current = null;
      return this.#emit('state', state);
    }
    // A failed renewal hurts only when the connection that is still open ends.
    if (!this.#current) this.#emit('state', state === 'refused' ? 'connecting' : state);
    this.#tryLater();
  }

  #tryLater() {
    this.#world.clearTimeout(this.#retry);
    this.#retry = this.#world.setTimeout(() => {
      this.#retry = undefined;
      this.#establish();
    }, this.#pause);
    this.#pause = Math.min(this.#pause * 2, BACK_OFF.longest);
  }

  async #token() {
    const { fetch } = this.#world;
    let answer;
    try {
      answer = await fetch('/api/token', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(this.#refused === undefined ? {} : { refused: this.#refused }),
      });
    } catch {
      throw new Stopped('provider_away');
    }
    if (answer.ok) return answer.json();
    throw new Stopped({ 404: 'not_connected', 410: 'withdrawn' }[answer.status] ?? 'provider_away');
  }

  async #devices(access) {
    const { fetch } = this.#world;
    const answer = await fetch(new URL('v1/devices', access.gateway.http), { headers: { authorization: `Bearer ${access.access_token}` } });
    if (answer.status === 401 || answer.status === 403) throw this.#refusal(access);
    if (!answer.ok) throw new Stopped('gateway_away');
    return joinDevices(await answer.json(), access.devices);
  }

  #refusal(access) {
    this.#refused = access.generation;
    return new Stopped('refused');
  }

  /** Resolves once it is connected and subscribed; from then on its end makes a new one. */
  #open(access, devices) {
    const client = this.#world.connect(access.gateway.websocket, {
      protocolVersion: 5,
      clientId: this.#world.clientId(),
      clean: true,
      username: 'Bearer',
      password: access.access_token,
      keepalive: 30,
      connectTimeout: 10_000,
      reconnectPeriod: 0,
      timerVariant: 'native',
    });
    const session = { client, access, subscribed: false, since: this.#world.now(), ended: false, end: () => ((session.ended = true), client.end(true)) };
    return new Promise((resolve, reject) => {
      let open = false;
      let why = new Stopped('gateway_away');
      client.on('connect', () => {
        const ready = (subscribed) => {
          open = true;
          session.subscribed = subscribed;
          resolve(session);
        };
        if (!mayRead(devices)) return ready(false);
        client.subscribe('d/#', { qos: 1 }, (error, granted) => {
          const code = granted?.[0]?.qos ?? 0x80;
          if (!error && code < 0x80) {
            // A gateway that has no shadows refuses; then there are none.
            client.subscribe('s/+', { qos: 1 }, () => {});
            return ready(true);
          }
          if (isRefusal(error?.code ?? code)) why = this.#refusal(access);
          session.end();
          reject(why);
        });
      });
      client.on('message', (topic, payload) => {
        const parsed = parseTopic(topic);
        // While two connections overlap, both bring the same message: twice does no harm, never would.
        if (parsed && !session.ended) this.#emit('message', { ...parsed, payload });
        const shadow = parseShadow(topic);
        const state = shadow && parse(payload);
        if (state && typeof state === 'object' && !session.ended) this.#emit('shadow', { handle: shadow, state });
      });
      client.on('disconnect', (packet) => {
        if (isRefusal(packet?.reasonCode)) why = this.#refusal(access);
      });
      client.on('error', (error) => {
        if (isRefusal(error?.code)) why = this.#refusal(access);
      });
      client.on('close', () => {
        if (session.ended) return;
        session.end();
        if (!open) return reject(why);
        if (this.#current !== session) return;
        this.#current = null;
        this.#world.clearTimeout(this.#renewal);
        if (this.#world.now() - session.since >= SHORT_LIFE) this.#pause = BACK_OFF.first;
        this.#emit('state', why.state === 'refused' ? 'connecting' : 'gateway_away');
        if (this.#world.now() - session.since < SHORT_LIFE) return this.#tryLater();
        this.#world.clearTimeout(this.#retry);
        this.#retry = undefined;
        this.#establish();
      });
    });
  }
}
