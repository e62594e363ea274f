import assert from 'node:assert/strict';
import { test } from 'node:test';
import { layout } from '../chart.js';
import { Series, WINDOW, decode, joinDevices, parseTopic, switchState } from '../readings.js';

const bytes = (text) => new TextEncoder().encode(text);

test('payloads are JSON scalars, or objects with a value', () => {
  assert.equal(decode(bytes('21.5')), 21.5);
  assert.equal(decode(bytes('true')), true);
  assert.equal(decode(bytes('{"value": 3, "unit": "x"}')), 3);
  for (const nothing of ['', 'hot', 'null', '[1]', '{}', '{"value": null}']) assert.equal(decode(bytes(nothing)), undefined, nothing);
  assert.equal(decode(new Uint8Array([0xff, 0x31])), undefined);
});

test('topics', () => {
  assert.deepEqual(parseTopic('d/h/room/temperature'), { handle: 'h', channel: 'room/temperature' });
  for (const wrong of ['d/h', 'c/h/x', 'd//x', 'xd/h/x']) assert.equal(parseTopic(wrong), undefined, wrong);
});

test('devices are joined by ref; a name is shown only if it is shared', () => {
  const channels = [
    { name: 'temperature', direction: 'data', type: 'number' },
    { name: 'heater', direction: 'data', type: 'boolean' },
    { name: 'heater', direction: 'command', type: 'boolean' },
    { name: 'window', direction: 'data', type: 'boolean' },
  ];
  const [named, nameless, bare] = joinDevices(
    [
      { handle: 'a', ref: '1', title: 'T1', channels },
      { handle: 'b', ref: '2', title: 'T1', channels: [] },
      { handle: 'c', ref: 'unknown' },
    ],
    [{ ref: '2' }, { ref: '1', name: 'Kitchen' }],
  );
  assert.deepEqual([named.name, named.model], ['Kitchen', 'T1']);
  assert.deepEqual(named.readings.map((one) => one.name), ['temperature']);
  assert.deepEqual(
    named.switches.map(({ name, commandable, readable }) => ({ name, commandable, readable })),
    [
      { name: 'heater', commandable: true, readable: true },
      { name: 'window', commandable: false, readable: true },
    ],
  );
  assert.deepEqual([nameless.name, nameless.model], ['T1', '']);
  assert.equal(bare.name, 'Device 3');
});

test('a series forgets what is older than the window', () => {
  const series = new Series();
  assert.equal(series.range, undefined);
  series.add(0, 30);
  series.add(1000, 20);
  series.add(WINDOW + 500, 22);
  assert.deepEqual(series.range, { low: 20, high: 22 });
  series.forget(10 * WINDOW);
  assert.equal(series.last, undefined);
});

test('the switch follows the device, not the wish', () => {
  const off = { value: false, time: 0 };
  const wish = { value: true, time: 1000, confirmed: false, refused: false };
  assert.equal(switchState(undefined, undefined, 0).text, 'The device has not said yet');
  assert.deepEqual(switchState(undefined, off, 0), { on: false, busy: false, text: 'Off, says the device' });
  const waiting = switchState(wish, off, 2000);
  assert.deepEqual([waiting.on, waiting.busy], [false, true]);
  const late = switchState(wish, off, 11_000);
  assert.deepEqual([late.on, late.busy, late.text], [false, false, 'The device has not confirmed “on”']);
  const done = switchState({ ...wish, confirmed: true }, { value: true, time: 3000 }, 60_000);
  assert.deepEqual(done, { on: true, busy: false, text: 'On, confirmed by the device' });
  assert.match(switchState({ ...wish, refused: true }, off, 2000).text, /did not let this through/);
});

test('the chart puts the newest reading at the right edge and high values at the top', () => {
  const now = 100_000;
  const chart = layout([{ time: now - 10_000, value: 20 }, { time: now, value: 22 }], [{ from: now - 5000, to: now }], now, 300, 160);
  const [first, second] = chart.line.split(' ').map((pair) => pair.split(',').map(Number));
  assert.equal(second[0], chart.frame.right);
  assert.ok(first[0] < second[0] && first[1] > second[1]);
  assert.equal(chart.begin, '60 s ago');
  assert.ok(chart.ticks.length >= 2 && chart.ticks.every((tick) => tick.y >= chart.frame.top && tick.y <= chart.frame.bottom));
  assert.equal(chart.spans[0].x + chart.spans[0].width, chart.frame.right);
});

test('a flat line is drawn in the middle, an ended span before the axis is left out', () => {
  const chart = layout([{ time: 0, value: 20 }, { time: 200_000, value: 20 }], [{ from: -9000, to: -1 }], 200_000, 300, 160);
  assert.equal(new Set(chart.line.split(' ').map((pair) => pair.split(',')[1])).size, 1);
  assert.equal(chart.begin, '3 min ago');
  assert.deepEqual(chart.spans, []);
});
