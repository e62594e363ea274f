/** What messages mean and how readings are kept in the page: pure, without a browser, a clock or a network. */

/** Readings older than this are forgotten, in milliseconds; where they come seldom, so many of them are kept. */
export const WINDOW = 5 * 60_000;

/** More readings than a device sends in the window at ten a second. */
const MOST = 3000;
const FEWEST = 24;

/** A device that sent nothing for this long is called silent, in milliseconds. */
const SILENT = 10_000;

/** A payload as JSON, or undefined. */
export function parse(payload) {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
  } catch {
    return undefined;
  }
}

/** What a window's statistics have to say, the least exact first: an owner may have allowed only some. */
const SUMMARY = ['mean', 'last', 'max', 'min'];

/**
 * What a payload says: `value` is a number, boolean or string, from JSON itself or an object's `value`. A summary of a window
 * (`from` and `to` in seconds) has its mean as `value`, and `spread`, `count` and `time` (in milliseconds) beside it. Undefined if
 * it is none of these.
 * @param {Uint8Array} payload
 * @returns {{value: number | boolean | string, spread?: number, count?: number, time?: number} | undefined}
 */
export function decode(payload) {
  const parsed = parse(payload);
  if (parsed !== null && typeof parsed === 'object' && typeof parsed.from === 'number' && typeof parsed.to === 'number') {
    const value = SUMMARY.map((name) => parsed[name]).find((one) => typeof one === 'number');
    return value === undefined ? undefined : { value, spread: parsed.std ?? 0, count: parsed.count, time: parsed.to * 1000 };
  }
  const value = parsed !== null && typeof parsed === 'object' ? parsed.value : parsed;
  return ['number', 'boolean', 'string'].includes(typeof value) ? { value } : undefined;
}

/** `s/<handle>` taken apart, or undefined. */
export const parseShadow = (topic) => /^s\/([^/]+)$/.exec(topic)?.[1];

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
    const channels = (device.channels ?? []).map((channel) => ({ ...channel, view: device.views?.[channel.name] ?? device.view ?? { kind: 'raw' } }));
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

/** How long it may be between two readings that an owner lets through so, in milliseconds; what only comes on a condition may never. */
export function pause(view) {
  if (view.kind === 'summary') return view.window_s * 1000;
  if (view.kind !== 'filter') return 0;
  const conditional = ['above', 'below', 'dead_band'].some((one) => view[one] !== undefined);
  return conditional ? Infinity : view.interval_s * 1000;
}

/** After how long a device with these channels is called silent, in milliseconds. */
export function patience(readings, switches) {
  const awaited = readings.length > 0 ? readings : switches.filter((one) => one.readable);
  return SILENT + 2 * Math.min(...awaited.map((channel) => pause(channel.view)), Infinity);
}

const SPANS = [
  [86_400, 'a day', 'days'],
  [3600, 'an hour', 'hours'],
  [60, 'a minute', 'minutes'],
  [1, 'a second', 'seconds'],
];

function spell(seconds) {
  const [length, one, many] = SPANS.find(([length]) => seconds % length === 0);
  return seconds === length ? one : `${seconds / length} ${many}`;
}

/** How exact readings are, in words. A view that this app does not know says nothing. */
export function inWords(view, unit) {
  const amount = (number) => (unit ? `${number} ${unit}` : `${number}`);
  const list = (names) => names.map((name) => `“${name}”`).join(', ');
  const parts = {
    raw: () => ['every value'],
    filter: ({ above, below, dead_band: band, interval_s: interval }) => [
      [below !== undefined && `below ${amount(below)}`, above !== undefined && `above ${amount(above)}`].filter(Boolean).join(above < below ? ' and ' : ' or ').replace(/^./, 'only $&'),
      band !== undefined && `only changes of at least ${amount(band)}`,
      interval !== undefined && `at most one in ${spell(interval)}`,
    ],
    summary: ({ window_s: window, statistics = ['mean'] }) => [
      statistics.includes('mean') ? `average over ${spell(window)}` : `statistics of ${spell(window)}`,
    ],
    coarsening: ({ round, drop, hash }) => [
      round !== undefined && `rounded to ${amount(round)}`,
      drop?.length > 0 && `without ${list(drop)}`,
      hash?.length > 0 && `${list(hash)} hidden`,
    ],
  }[view.kind];
  return parts ? parts(view).filter(Boolean).join(', ') : '';
}

/** The last minutes of one channel. Times are milliseconds. */
export class Series {
  /** @type {{time: number, value: number, spread?: number}[]} */
  points = [];

  /** @param {number} [pause] how long it is from one reading to the next */
  constructor(pause = 0) {
    this.window = Math.max(WINDOW, Number.isFinite(pause) ? FEWEST * pause : 0);
  }

  add(time, value, spread) {
    // The same window may come again: retained, or over a second connection.
    if (spread !== undefined && this.last?.time >= time) return;
    this.points.push(spread === undefined ? { time, value } : { time, value, spread });
    this.forget(time);
  }

  forget(now) {
    const first = this.points.findIndex((point) => point.time >= now - this.window);
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
 * The knob follows the device, never the wish. A wish that is `kept` waits in the device's shadow.
 * @returns {{on: boolean, busy: boolean, text: string}}
 */
export function switchState(asked, said, now, patience = 10_000) {
  const word = (value) => (value ? 'on' : 'off');
  const on = said?.value === true;
  if (asked && asked.refused) return { on, busy: false, text: 'The gateway did not let this through' };
  if (asked && !asked.confirmed) {
    if (now - asked.time < patience) return { on, busy: true, text: `Turning ${word(asked.value)}, waiting for the device …` };
    if (asked.kept) return { on, busy: false, text: `“${word(asked.value)}” waits until the device is back` };
    return { on, busy: false, text: `The device has not confirmed “${word(asked.value)}”` };
  }
  if (!said) return { on, busy: false, text: 'The device has not said yet' };
  if (asked && asked.value === said.value) return { on, busy: false, text: `${on ? 'On' : 'Off'}, confirmed by the device` };
  return { on, busy: false, text: `${on ? 'On' : 'Off'}, says the device` };
}

/** Numbers as people read them: one decimal. */
export const format = (value) => (typeof value === 'number' ? value.toFixed(1) : String(value));
