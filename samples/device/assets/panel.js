// Draws the thermostats as they are, live. Nothing is decided here: the devices are processes of their own.
'use strict';

const HOLD = 3_000;

const PHASES = {
  blank: 'Has not been flashed yet',
  searching: 'Nobody’s · looking for its server',
  ready: 'Nobody’s · press the button to claim it',
  claimable: 'Type this code where you logged in',
  settling: 'Yours · settling in',
  joining: 'Owned · connecting',
  renewing: 'Owned · renewing its token',
  running: 'Owned · running',
  resetting: 'Being given up',
};

const LAMPS = { off: 'Lamp off', flash: 'Lamp flashes now and then', slow: 'Lamp blinks slowly', fast: 'Lamp blinks fast', on: 'Lamp on' };

const wall = document.getElementById('wall');
const link = document.getElementById('link');
const cards = new Map();

function part(card, role) {
  return card.querySelector(`[data-role="${role}"]`);
}

function send(n, what) {
  fetch(`/thermostats/${n}/${what}`, { method: 'POST', redirect: 'manual' }).catch(() => {});
}

// A short press opens a claim window, a press of three seconds gives the device up. The filling ring says which it will be.
function button(card, n) {
  const push = part(card, 'button');
  const hold = part(card, 'hold');
  let timer = null;
  const stop = () => {
    clearTimeout(timer);
    timer = null;
    push.classList.remove('holding');
    hold.textContent = 'Hold for 3 s';
  };
  const start = () => {
    push.classList.add('holding');
    timer = setTimeout(() => {
      stop();
      held = true;
      send(n, 'hold');
    }, HOLD);
  };
  let held = false;
  push.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    held = false;
    stop();
    start();
  });
  for (const end of ['pointerup', 'pointerleave', 'pointercancel']) push.addEventListener(end, stop);
  push.addEventListener('contextmenu', (event) => event.preventDefault());
  push.addEventListener('click', () => {
    if (!held) send(n, 'press');
    held = false;
  });
  // For keyboards, and for fingers that cannot hold: starts holding, and lets go when it is used again.
  hold.addEventListener('click', () => {
    if (timer !== null) return stop();
    start();
    hold.textContent = 'Let go';
  });
}

function create(n) {
  const card = document.getElementById('thermostat').content.firstElementChild.cloneNode(true);
  card.dataset.thermostat = n;
  part(card, 'title').textContent = `Thermostat ${n}`;
  const digits = part(card, 'digits');
  for (let i = 0; i < 4; i += 1) digits.append(document.getElementById('digit').content.firstElementChild.cloneNode(true));
  button(card, n);
  cards.set(n, card);
  const after = [...cards.keys()].filter((other) => other > n).sort((a, b) => a - b)[0];
  wall.insertBefore(card, after === undefined ? null : cards.get(after));
  return card;
}

function text(card, role, value) {
  const at = part(card, role);
  if (at.textContent !== value) at.textContent = value;
}

function draw(card, state) {
  card.dataset.phase = state === null ? 'blank' : state.phase;
  card.classList.toggle('dead', state === null);
  if (state === null) {
    text(card, 'phase', 'No power');
    return;
  }
  card.classList.toggle('heating', state.heater);
  text(card, 'phase', PHASES[state.phase] ?? state.phase);
  text(card, 'temperature', state.temperature.toFixed(1));
  text(card, 'humidity', state.humidity.toFixed(0));
  text(card, 'heater', state.heater ? 'on' : 'off');
  text(card, 'hardware', state.hardware_id);
  text(card, 'notice', state.notice ?? '');
  const share = Math.min(Math.max((state.temperature - 10) / 20, 0), 1);
  part(card, 'arc').style.setProperty('stroke-dasharray', `${(share * 100).toFixed(1)} 100`);
  const lamp = part(card, 'lamp');
  lamp.dataset.lamp = state.lamp;
  lamp.setAttribute('aria-label', LAMPS[state.lamp] ?? '');
  const code = state.code ?? '';
  text(card, 'code', code);
  const places = part(card, 'digits').children;
  for (let i = 0; i < places.length; i += 1) places[i].dataset.digit = code[i] ?? '';
  part(card, 'digits').classList.toggle('lit', code !== '');
}

function show(all) {
  document.getElementById('empty').hidden = all.length > 0;
  for (const { n, state } of all) draw(cards.get(n) ?? create(n), state);
}

const events = new EventSource('/events');
events.addEventListener('message', (event) => show(JSON.parse(event.data)));
events.addEventListener('open', () => {
  link.dataset.live = 'true';
  link.textContent = 'live';
});
events.addEventListener('error', () => {
  link.dataset.live = 'false';
  link.textContent = 'not connected';
});
