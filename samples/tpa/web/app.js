/** The diary page: puts the gateway's connection and the devices' cards together. */
import * as mqtt from '/assets/mqtt.js';
import { DeviceCard } from './card.js';
import { GatewayConnection } from './gateway.js';

const MOST_ENTRIES = 30;

/** How often the list of devices is asked for, in milliseconds. */
const LOOK_ANEW = 30_000;

/** What each state of the connection says, how loud, and whether connecting again helps. */
const STATES = {
  connecting: { tone: 'wait', text: 'Connecting to your gateway …' },
  live: { tone: 'hidden', text: 'Connected' },
  empty: { tone: 'wait', text: 'Connected, but you gave this app no device yet. You can add one where you manage your consents, or connect again.', again: true },
  gateway_away: { tone: 'bad', text: 'Your gateway is away. Trying again …' },
  provider_away: { tone: 'bad', text: 'The identity service is away. Trying again …' },
  withdrawn: { tone: 'bad', text: 'You withdrew this app’s access. Nothing is received any more, and the permission is deleted here.', again: true },
  not_connected: { tone: 'wait', text: 'This browser is not connected.', again: true },
};

const connect = mqtt.connect ?? mqtt.default.connect;
const cards = new Map();
const status = document.getElementById('status');
const entries = document.getElementById('entries');

const gateway = new GatewayConnection({
  connect,
  fetch: window.fetch.bind(window),
  setTimeout: window.setTimeout.bind(window),
  clearTimeout: window.clearTimeout.bind(window),
  now: () => performance.now(),
  clientId: () => `diary-${crypto.getRandomValues(new Uint32Array(3)).join('-')}`,
});

function note(text) {
  document.getElementById('diary').hidden = false;
  const entry = document.createElement('li');
  const time = document.createElement('time');
  time.textContent = new Date().toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
  entry.append(time, ` ${text}`);
  entries.prepend(entry);
  while (entries.childElementCount > MOST_ENTRIES) entries.lastElementChild.remove();
}

gateway.addEventListener('state', ({ detail: state }) => {
  const { tone, text, again } = STATES[state];
  status.dataset.state = state;
  status.className = `banner ${tone}`;
  status.querySelector('.text').textContent = text;
  status.querySelector('.next').hidden = !again;
  const gone = state === 'withdrawn' || state === 'not_connected';
  document.getElementById('devices').classList.toggle('away', state !== 'live');
  if (gone) {
    for (const card of cards.values()) card.element.remove();
    cards.clear();
    shadows.clear();
  }
});

gateway.addEventListener('devices', ({ detail: devices }) => {
  for (const [handle, card] of cards) {
    if (devices.some((device) => device.handle === handle)) continue;
    card.element.remove();
    cards.delete(handle);
  }
  for (const device of devices) {
    const known = cards.get(device.handle);
    if (known) {
      known.update(device);
      continue;
    }
    const card = new DeviceCard(device, {
      command: (channel, value) => gateway.command(device.handle, channel, value),
      want: (patch) => gateway.want(device.handle, patch),
      note,
      fellSilent: () => gateway.refresh(),
    });
    cards.set(device.handle, card);
    document.getElementById('devices').append(card.element);
    // It has no width before it is on the page.
    card.render();
    for (const message of early.filter((one) => one.handle === device.handle)) card.receive(message.channel, message.payload);
    if (shadows.has(device.handle)) card.follow(shadows.get(device.handle));
  }
  early.length = 0;
});

/** Retained values may come before the first list of devices is shown. */
const early = [];
gateway.addEventListener('message', ({ detail: message }) => {
  const card = cards.get(message.handle);
  if (card) card.receive(message.channel, message.payload);
  else if (early.push(message) === 1) gateway.refresh();
  else if (early.length > 100) early.shift();
});

/** The newest state of each device's shadow; it may come before its card is there. */
const shadows = new Map();
gateway.addEventListener('shadow', ({ detail: { handle, state } }) => {
  shadows.set(handle, state);
  cards.get(handle)?.follow(state);
});

window.setInterval(() => cards.forEach((card) => card.render()), 1000);
window.setInterval(() => gateway.refresh(), LOOK_ANEW);
window.addEventListener('online', () => gateway.hurry());
document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && gateway.hurry());
gateway.start();
