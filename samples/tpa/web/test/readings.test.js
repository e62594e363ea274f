import assert from 'node:assert/strict';
import { test } from 'node:test';
import { layout } from '../chart.js';
import { Series, WINDOW, decode, inWords, joinDevices, parseShadow, parseTopic, patience, pause, switchState } from '../readings.js';

const bytes = (text) => new TextEncoder().encode(text);

test('payloads are JSON scalars, or objects with a value', () => {
  assert.deepEqual(decode(bytes('21.5')), { value: 21.5 });
  assert.deepEqual(decode(bytes('true')), { value: true });
  assert.deepEqual(decode(bytes('{"value": 3, "unit": "x"}')), { value: 3 });
  for (const nothing of ['', 'hot', 'null', '[1]', '{}', '{"value": null}']) assert.equal(decode(bytes(nothing)), undefined, nothing);
  assert.equal(decode(new Uint8Array([0xff, 0x31])), undefined);
});

test('a summary is its mean with the spread around it, at the end of its window', () => {
  const summary = decode(bytes('{"from": 900, "to": 1800, "count": 7, "mean": 21.25, "std": 0.5}'));
  assert.deepEqual(summary, { value: 21.25, spread: 0.5, count: 7, time: 1_800_000 });
  assert.equal(decode(bytes('{"from": 900, "to": 1800, "max": 3, "min": 1}')).value, 3);
  assert.equal(decode(bytes('{"from": 900, "to": 1800, "count": 7}')), undefined);
});

test('views are said in words', () => {
  for (const [view, words] of [
    [{ kind: 'raw' }, 'every value'],
    [{ kind: 'filter', interval_s: 60 }, 'at most one in a minute'],
    [{ kind: 'filter', below: 5, above: 30, dead_band: 0.5 }, 'only below 5 °C or above 30 °C, only changes of at least 0.5 °C'],
    [{ kind: 'summary', window_s: 900 }, 'average over 15 minutes'],
    [{ kind: 'summary', window_s: 3600, statistics: ['max'] }, 'statistics of an hour'],
    [{ kind: 'coarsening', round: 1, drop: ['serial'], hash: ['card'] }, 'rounded to 1 °C, without “serial”, “card” hidden'],
    [{ kind: 'of the future' }, ''],
  ]) {
    assert.equal(inWords(view, '°C'), words);
  }
});

test('who may see little waits longer before a device is called silent', () => {
  const reading = (view) => ({ name: 'x', view });
  const raw = reading({ kind: 'raw' });
  assert.equal(patience([raw], []), 10_000);
  assert.equal(patience([], [{ ...raw, readable: true }]), 10_000);
  assert.equal(patience([reading({ kind: 'summary', window_s: 60 })], [{ ...raw, readable: true }]), 130_000);
  assert.equal(patience([reading({ kind: 'filter', interval_s: 60 }), raw], []), 10_000);
  assert.equal(patience([reading({ kind: 'filter', above: 3, interval_s: 60 })], []), Infinity);
});

test('topics', () => {
  assert.equal(parseShadow('s/h'), 'h');
  for (const wrong of ['s/h/delta', 's/', 'd/h']) assert.equal(parseShadow(wrong), undefined, wrong);
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

test('seldom readings are kept longer, and the same window counts once', () => {
  const series = new Series(pause({ kind: 'summary', window_s: 900 }));
  series.add(900_000, 21, 0.5);
  series.add(1_800_000, 22, 0.5);
  series.add(1_800_000, 22, 0.5);
  assert.equal(series.points.length, 2);
  assert.equal(new Series(Infinity).window, WINDOW);
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
  const kept = switchState({ ...wish, kept: true }, off, 11_000);
  assert.equal(kept.text, '“on” waits until the device is back');
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

test('the band of a summary lies around its line', () => {
  const points = [{ time: 0, value: 20, spread: 1 }, { time: 100_000, value: 20, spread: 2 }];
  const chart = layout(points, [], 100_000, 300, 160);
  const [upper, wider, , lower] = chart.band.split(' ').map((pair) => Number(pair.split(',')[1]));
  const [line] = chart.line.split(' ').map((pair) => Number(pair.split(',')[1]));
  assert.ok(wider < upper && upper < line && line < lower);
  assert.equal(layout(points.map(({ time, value }) => ({ time, value })), [], 100_000, 300, 160).band, '');
});

test('a flat line is drawn in the middle, an ended span before the axis is left out', () => {
  const chart = layout([{ time: 0, value: 20 }, { time: 200_000, value: 20 }], [{ from: -9000, to: -1 }], 200_000, 300, 160);
  assert.equal(new Set(chart.line.split(' ').map((pair) => pair.split(',')[1])).size, 1);
  assert.equal(chart.begin, '3 min ago');
  assert.deepEqual(chart.spans, []);
});
