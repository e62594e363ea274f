/** What messages mean and how readings are kept in the page: pure, without a browser, a clock or a network. */

/** Readings older than this are forgotten, in milliseconds. */
export const WINDOW = 5 * 60_000;

/** More readings than a device sends in the window at ten a second. */
const MOST = 3000;

/**
 * The value in a payload: a number, boolean or string as JSON, or an object's `value`. Undefined if it is none of these.
 * @param {Uint8Array} payload
 */
export function decode(payload) {
  let parsed;
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
  } catch {
    return undefined;
  }
  const value = parsed !== null && typeof parsed === 'object' ? parsed.value : parsed;
  return ['number', 'boolean', 'string'].includes(typeof value) ? value : undefined;
}

/** `d/<handle>/<channel>` taken apart, or undefined. A channel may have several levels. */
export function parseTopic(topic) {
  const match = /^d\/([^/]+)\/(.+)$/.exec(topic);
  return match ? { handle: match[1], channel: match[2] } : undefined;
}

/**
 * Joins the gateway's list (handles, no names) with what the token response told (names, no handles) by `ref`.
 * @returns {{handle: string, name: string, model: string, readings: object[], switches: object[]}[]}
 */
export function joinDevices(fromGateway, fromToken) {
  const details = new Map(fromToken.map((detail) => [detail.ref, detail]));
  return fromGateway.map((device, index) => {
    const detail = details.get(device.ref);
    const model = device.title ?? detail?.title ?? '';
    const channels = device.channels ?? [];
    const readable = channels.filter((channel) => channel.direction === 'data');
    const commandable = channels.filter((channel) => channel.direction === 'command');
    const switches = commandable.filter((channel) => channel.type === 'boolean');
    const isSwitch = (channel) => switches.some((one) => one.name === channel.name);
    return {
      handle: device.handle,
      name: detail?.name ?? (model || `Device ${index + 1}`),
      model: detail?.name ? model : '',
      readings: readable.filter((channel) => channel.type !== 'boolean'),
      switches: [
        ...switches.map((channel) => ({ ...channel, commandable: true, readable: readable.some((one) => one.name === channel.name) })),
        ...readable
          .filter((channel) => channel.type === 'boolean' && !isSwitch(channel))
          .map((channel) => ({ ...channel, commandable: false, readable: true })),
      ],
    };
  });
}

/** The last minutes of one channel. Times are milliseconds. */
export class Series {
  /** @type {{time: number, value: number}[]} */
  points = [];

  add(time, value) {
    this.points.push({ time, value });
    this.forget(time);
  }

  forget(now) {
    const first = this.points.findIndex((point) => point.time >= now - WINDOW);
    const keep = first < 0 ? 0 : this.points.length - first;
    if (keep < this.points.length || keep > MOST) this.points = keep > 0 ? this.points.slice(-Math.min(keep, MOST)) : [];
  }

  get last() {
    return this.points.at(-1);
  }

  /** @returns {{low: number, high: number} | undefined} */
  get range() {
    if (this.points.length === 0) return undefined;
    const values = this.points.map((point) => point.value);
    return { low: Math.min(...values), high: Math.max(...values) };
  }
}

/**
 * What a switch shows. `asked` is what this page wanted last, `said` what the device said last; both `{value, time}`.
 * The knob follows the device, never the wish.
 * @returns {{on: boolean, busy: boolean, text: string}}
 */
export function switchState(asked, said, now, patience = 10_000) {
  const word = (value) => (value ? 'on' : 'off');
  const on = said?.value === true;
  if (asked && asked.refused) return { on, busy: false, text: 'The gateway did not let this through' };
  if (asked && !asked.confirmed) {
    if (now - asked.time < patience) return { on, busy: true, text: `Turning ${word(asked.value)}, waiting for the device …` };
    return { on, busy: false, text: `The device has not confirmed “${word(asked.value)}”` };
  }
  if (!said) return { on, busy: false, text: 'The device has not said yet' };
  if (asked && asked.value === said.value) return { on, busy: false, text: `${on ? 'On' : 'Off'}, confirmed by the device` };
  return { on, busy: false, text: `${on ? 'On' : 'Off'}, says the device` };
}

/** Numbers as people read them: one decimal. */
export const format = (value) => (typeof value === 'number' ? value.toFixed(1) : String(value));
