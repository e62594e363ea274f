/** Two owners: each with a broker of their own that knows nothing of the other; and a device that changes hands. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { claim } from '../lib/claim.js';
import { Diary } from '../lib/diary.js';
import { Person, named, useBrowser } from '../lib/person.js';
import * as pcm from '../lib/pcm.js';
import { until } from '../lib/until.js';
import { Workshop } from '../lib/workshop.js';

useBrowser({ before, after });

const OF_ALICE = named('Of Alice');
const OF_BOB = named('Of Bob');
const FIRST = named('First');
const SECOND = named('Second');
const PRESSED_LONG = named('Pressed long');

test('two owners are kept apart: apps, containers, files, networks', async (t) => {
  const workshop = await Workshop.open(t);
  const people = [];
  for (const [who, name] of [
    ['alice', OF_ALICE],
    ['bob', OF_BOB],
  ]) {
    const person = await Person.withPhone(t, who);
    const thermostat = await workshop.takeOne();
    await claim(person, thermostat, name);
    people.push({ person, thermostat, name, diary: await Diary.connect(person) });
  }
  const [alice, bob] = people;
  for (const { diary, name } of people) await diary.waitForReadings(name);
  assert.equal(await alice.diary.card(OF_BOB).count(), 0);
  assert.equal(await bob.diary.card(OF_ALICE).count(), 0);
  await bob.diary.switchHeater(OF_BOB, true);
  assert.equal(await alice.thermostat.isHeating(), false, 'a command reaches its own device only');

  const names = await until('both have a broker', async () => {
    const all = await pcm.names();
    return all.length >= 2 && all;
  });
  const brokers = await Promise.all(names.map(async (name) => ({ name, ...(await pcm.describe(name)), ...(await pcm.inside(name)) })));
  const sources = brokers.flatMap((broker) => broker.mounts.map((mount) => mount.Source));
  assert.equal(new Set(sources).size, sources.length, 'no directory is mounted twice');
  assert.equal(new Set(brokers.map((broker) => broker.config.User)).size, brokers.length, 'each runs as a user of its own');
  for (const broker of brokers) {
    assert.match(broker.name, /^pcm-[0-9a-f]{32}$/);
    assert.ok(broker.running);
    assert.equal(broker.host.NetworkMode, 'none');
    assert.deepEqual(Object.keys(broker.networks).filter((name) => name !== 'none'), []);
    assert.deepEqual(broker.mounts.map((mount) => mount.Destination), ['/run/pcm']);
    // It was started before it was anybody's: the source is the slot, which is its user's number.
    const slot = Number(broker.config.User.split(':')[0]).toString(16).padStart(8, '0');
    assert.ok(broker.mounts.every((mount) => mount.Source.endsWith(`/pool-${slot}`)), 'only its own directory, never a whole volume');
    assert.equal(broker.host.ReadonlyRootfs, true);
    assert.deepEqual(broker.host.CapDrop, ['ALL']);
    assert.ok(broker.host.SecurityOpt.some((option) => option.startsWith('no-new-privileges')));
    assert.equal(broker.host.Privileged, false);
    assert.equal(broker.host.LogConfig.Type, 'none');

    assert.deepEqual(broker.interfaces, ['lo'], 'from inside: no network');
    assert.ok(broker.files.includes('/pcm') && broker.files.includes('/run/pcm'), broker.files.join(' '));
    const others = names.filter((name) => name !== broker.name);
    for (const other of others) {
      assert.equal([...broker.files, ...broker.mountPoints].some((path) => path.includes(other)), false, 'from inside: nothing of others');
    }
    const beyond = broker.files.filter((path) => !/^\/(pcm|run(\/pcm(\/s)?)?|etc(\/(hostname|hosts|resolv\.conf|mtab))?|\.dockerenv|dev|proc|sys)?$/.test(path));
    assert.deepEqual(beyond, [], 'from inside: its program and its own socket, nothing else');
    const docker = broker.files.some((path) => path.includes('docker.sock'));
    assert.equal(docker, false);
  }
});

test('a released device forgets its owner, and the printed label serves the next one', async (t) => {
  const workshop = await Workshop.open(t);
  const thermostat = await workshop.takeOne();
  const carol = await Person.withPhone(t, 'carol');
  await claim(carol, thermostat, FIRST);
  const former = await Diary.connect(carol, { devices: [FIRST] });
  await former.waitForReadings(FIRST);
  await carol.release(FIRST, await carol.newTab());
  await former.card(FIRST).waitFor({ state: 'detached' });
  await thermostat.reaches('ready');

  const dan = await Person.withPhone(t, 'dan');
  await claim(dan, thermostat, SECOND);
  const diary = await Diary.connect(dan, { devices: [SECOND] });
  await diary.waitForReadings(SECOND);
  assert.equal(await former.cards.filter({ hasText: FIRST }).count(), 0);
  await carol.openAccount();
  assert.equal(await carol.page.getByRole('heading', { name: FIRST }).count(), 0);
});

test('a long press on the device releases it too', async (t) => {
  const workshop = await Workshop.open(t);
  const thermostat = await workshop.takeOne();
  const dan = await Person.withPhone(t, 'dan');
  await claim(dan, thermostat, PRESSED_LONG);
  await thermostat.hold();
  await thermostat.reaches('ready');
  await dan.openAccount();
  await until('the owner’s page does not show it any more', async () => {
    await dan.page.reload();
    return (await dan.page.getByRole('heading', { name: PRESSED_LONG }).count()) === 0;
  });
});
