/** The card of one device: its readings with their charts, its switches, and how fresh all that is. */
import { draw } from './chart.js';
import { Series, decode, format, inWords, patience, pause, switchState } from './readings.js';

const EMPTY_CHART = 'A chart begins here with the first reading.';

const clone = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

export class DeviceCard {
  #lastMessage;
  #readings = new Map();
  #switches = new Map();
  #spans = [];
  #shadow = {};

  /**
   * @param {ReturnType<typeof import('./readings.js').joinDevices>[number]} device
   * @param {{command: (channel: string, value: boolean) => Promise<boolean>, want: (patch: object) => Promise<boolean>, note: (text: string) => void,
   *   fellSilent: () => void}} page
   */
  constructor(device, page) {
    this.page = page;
    this.element = clone('device');
    this.element.dataset.handle = device.handle;
    this.update(device);
  }

  /** Takes over a changed description; what was read stays. */
  update(device) {
    this.device = device;
    this.element.querySelector('.name').textContent = device.name;
    this.element.querySelector('.model').textContent = device.model;
    this.#match(this.#readings, device.readings, '.readings', (channel) => this.#reading(channel));
    this.#match(this.#switches, device.switches, '.switches', (channel) => this.#switch(channel));
    this.render();
  }

  #match(parts, channels, place, make) {
    for (const [name, part] of parts) {
      if (channels.some((channel) => channel.name === name && channel.commandable === part.channel.commandable)) continue;
      part.element.remove();
      parts.delete(name);
    }
    for (const channel of channels) {
      const known = parts.get(channel.name);
      if (known) showExactness(known, channel);
      if (known) continue;
      const part = make(channel);
      parts.set(channel.name, part);
      showExactness(part, channel);
      this.element.querySelector(place).append(part.element);
    }
  }

  #reading(channel) {
    const element = clone('reading');
    element.dataset.channel = channel.name;
    element.querySelector('.title').textContent = channel.title ?? channel.name;
    element.querySelector('.unit').textContent = channel.unit ?? '';
    element.querySelector('.chart').textContent = EMPTY_CHART;
    return { channel, element, series: new Series(pause(channel.view)) };
  }

  #switch(channel) {
    const element = clone('switch');
    element.dataset.channel = channel.name;
    const title = channel.title ?? channel.name;
    element.querySelector('.title').textContent = title;
    const button = element.querySelector('button');
    button.setAttribute('aria-label', title);
    const part = { channel, element, button, asked: undefined, said: undefined };
    button.hidden = !channel.commandable;
    button.addEventListener('click', () => this.#toggle(part));
    return part;
  }

  async #toggle(part) {
    const { name } = part.channel;
    // A device that reports this to its shadow obeys the shadow, too, and then also what was wanted while it was away.
    const kept = typeof this.#shadow.reported?.[name] === 'boolean';
    const asked = { value: part.said?.value !== true, time: Date.now(), confirmed: false, refused: false, kept };
    part.asked = asked;
    this.render();
    asked.refused = !(await (kept ? this.page.want({ [name]: asked.value }) : this.page.command(name, asked.value)));
    this.render();
  }

  /** A message on `d/<this device>/<channel>`. */
  receive(channel, payload) {
    const said = decode(payload);
    if (said === undefined) return;
    const { value } = said;
    const now = Date.now();
    this.#lastMessage = now;
    const reading = this.#readings.get(channel);
    if (reading && typeof value === 'number') reading.series.add(said.time ?? now, value, said.spread);
    else if (reading) reading.text = value;
    const part = this.#switches.get(channel);
    if (part && typeof value === 'boolean') this.#said(part, value, now);
    this.render();
  }

  /** The device's shadow as the gateway shows it: what the device reported, what is wanted, and what of that it does not have yet. */
  follow(state) {
    this.#shadow = state;
    for (const [name, part] of this.#switches) {
      const reported = state.reported?.[name];
      if (typeof reported === 'boolean' && !part.said) this.#said(part, reported, Date.now());
    }
    this.render();
  }

  #said(part, value, now) {
    const changed = part.said?.value !== value;
    part.said = { value, time: now };
    if (part.asked && !part.asked.confirmed && part.asked.value === value) part.asked.confirmed = true;
    else if (changed && part.asked?.confirmed) part.asked = undefined;
    if (!changed) return;
    const title = part.channel.title ?? part.channel.name;
    this.page.note(`${this.device.name}: ${title} ${value ? 'on' : 'off'}`);
    if (value) this.#spans.push({ from: now, to: Infinity });
    else if (this.#spans.length > 0) this.#spans.at(-1).to = now;
  }

  /** Brings the card up to now; also called every second, because waiting is something to show too. */
  render() {
    const now = Date.now();
    const pill = this.element.querySelector('.pill');
    const age = this.#lastMessage === undefined ? undefined : now - this.#lastMessage;
    const silent = patience(this.device.readings, this.device.switches);
    const state = age === undefined ? 'waiting' : age > silent ? 'silent' : 'live';
    // Maybe it is not ours to see any more.
    if (state === 'silent' && pill.dataset.state !== 'silent') this.page.fellSilent();
    if (pill.dataset.state !== state) pill.dataset.state = state;
    pill.textContent = { waiting: 'Waiting for data', silent: `Silent for ${duration(age)}`, live: 'Live' }[state];
    for (const part of this.#readings.values()) this.#renderReading(part, now);
    for (const part of this.#switches.values()) renderSwitch(part, now);
  }

  #renderReading({ channel, element, series, text }, now) {
    const number = element.querySelector('.number');
    const { last, range } = series;
    number.textContent = last ? format(last.value) : (text ?? '–');
    if (!range) return;
    const unit = channel.unit ?? '';
    element.querySelector('.range').textContent = `Lowest ${format(range.low)}, highest ${format(range.high)}`;
    const spans = this.#spans.map((span) => ({ from: span.from, to: Math.min(span.to, now) }));
    const label = `${channel.title ?? channel.name}: now ${format(last.value)} ${unit}, between ${format(range.low)} and ${format(range.high)} in ${channel.view.kind === 'summary' ? 'these averages' : 'the last minutes'}`;
    draw(element.querySelector('.chart'), series.points, spans, now, label);
  }
}

/** How exact what is shown is: its owner chose that, and may change it at any time. What came under another choice is forgotten. */
function showExactness(part, channel) {
  // Of a switch only what is out of the ordinary.
  const words = channel.readable === false || (!part.series && channel.view.kind === 'raw') ? '' : inWords(channel.view, channel.unit);
  const place = part.element.querySelector('.exactly');
  if (place.textContent !== words) place.textContent = words;
  const changed = JSON.stringify(part.channel.view) !== JSON.stringify(channel.view);
  part.channel = channel;
  if (!changed || !part.series) return;
  part.series = new Series(pause(channel.view));
  part.element.querySelector('.range').textContent = '';
  part.element.querySelector('.chart').textContent = EMPTY_CHART;
}

function renderSwitch({ channel, element, button, asked, said }, now) {
  const { on, busy, text } = switchState(asked, said, now);
  const words = element.querySelector('.said');
  const shown = channel.readable || asked ? text : 'You may switch it, but not see what it says';
  // Set only if it changed: it is read aloud whenever it is set.
  if (words.textContent !== shown) words.textContent = shown;
  button.setAttribute('aria-checked', String(on));
  button.toggleAttribute('data-busy', busy);
}

function duration(milliseconds) {
  const seconds = Math.round(milliseconds / 1000);
  return seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}
