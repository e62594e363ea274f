/** The sample app: consent, live readings, commands, renewal, and what happens when the owner changes their mind. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { claim } from '../lib/claim.js';
import { Diary } from '../lib/diary.js';
import { Person, named, shot, useBrowser } from '../lib/person.js';
import { start, stop, urls } from '../lib/stack.js';
import { until } from '../lib/until.js';
import { Workshop } from '../lib/workshop.js';

useBrowser({ before, after });

const LIVE = named('Live');
const LONG = named('Long');
const REFUSED = named('Refused');
const SECRET_NAME = named('Secret name');
const QUIET = named('Quiet');
const WANTED = named('Wanted');
const STAYS = named('Stays');
const GOES = named('Goes');
const WITHDRAWN = named('Withdrawn');
const GIVEN_BACK = named('Given back');

/** A fresh thermostat that `who` owns under `name`. */
async function owned(t, who, name) {
  const workshop = await Workshop.open(t);
  const thermostat = await workshop.takeOne();
  const person = await Person.withPhone(t, who);
  await claim(person, thermostat, name);
  return { workshop, thermostat, person };
}

test('readings arrive live, a command is confirmed by the device', async (t) => {
  const { thermostat, person } = await owned(t, 'alice', LIVE);
  const { page } = person;
  await page.goto(urls.tpa);
  await shot(page, 'tpa-landing');
  const diary = await Diary.connect(person, { devices: [LIVE], pictures: true });
  await diary.waitForState('live');
  await diary.waitForReadings(LIVE);
  const first = await diary.points(LIVE);
  await until('five more readings', async () => (await diary.points(LIVE)) >= first + 5);
  await diary.switchHeater(LIVE, true);
  await until('the thermostat heats', () => thermostat.isHeating());
  await shot(page, 'tpa-diary');
  await diary.switchHeater(LIVE, false);
  await until('the thermostat is off', async () => !(await thermostat.isHeating()));
});

test('the page outlives its token: the connection is renewed and no reading is missed', async (t) => {
  const { person } = await owned(t, 'alice', LONG);
  const { page } = person;
  const sockets = [];
  page.on('websocket', (socket) => sockets.push(socket));
  const states = [];
  await page.exposeFunction('noteState', (state) => states.push(state));
  await page.addInitScript(() => {
    document.addEventListener('DOMContentLoaded', () => {
      const status = document.getElementById('status');
      if (status) new MutationObserver(() => window.noteState(status.dataset.state)).observe(status, { attributes: true, attributeFilter: ['data-state'] });
    });
  });
  const diary = await Diary.connect(person, { devices: [LONG] });
  await diary.waitForReadings(LONG);
  const life = await page.evaluate(async () => {
    const answer = await fetch('/api/token', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' });
    return (await answer.json()).expires_in;
  });
  assert.ok(life <= 60, `tokens live for ${life} s; start the deployment with DIDP_APP_ACCESS_TOKEN=30`);
  const before = await diary.points(LONG);
  const begun = Date.now();
  await until('the connection was renewed twice', () => sockets.length >= 3, 120_000);
  await until('the renewed connection brings readings', async () => (await diary.points(LONG)) > before);
  const seconds = Math.floor((Date.now() - begun) / 1000);
  const came = (await diary.points(LONG)) - before;
  assert.ok(came >= seconds - 2, `${came} readings in ${seconds} s`);
  assert.deepEqual([...new Set(states)], ['live'], 'the page never said that it was away');
  await until('old connections are closed', () => sockets.filter((socket) => !socket.isClosed()).length === 1);
});

test('declining gives the app nothing', async (t) => {
  const { person } = await owned(t, 'bob', REFUSED);
  await Diary.ask(person);
  await person.page.getByRole('button', { name: 'Decline', exact: true }).click();
  await person.page.getByRole('heading', { name: 'You declined' }).waitFor();
  await shot(person.page, 'tpa-declined');
  await person.page.goto(`${urls.tpa}/diary`);
  await person.page.waitForURL(`${urls.tpa}/`);
});

test('without names and commands the app sees models, and cannot switch', async (t) => {
  const { person } = await owned(t, 'carol', SECRET_NAME);
  const diary = await Diary.connect(person, { devices: [SECRET_NAME], names: false, command: false });
  await diary.waitForState('live');
  await diary.cards.first().locator('.pill[data-state=live]').waitFor();
  assert.equal(await diary.page.getByText(SECRET_NAME).count(), 0);
  assert.equal(await diary.page.getByRole('switch').count(), 0);
});

test('without a grant nothing is kept: an app that comes later finds nothing of before', async (t) => {
  const { thermostat, person } = await owned(t, 'dan', QUIET);
  // It has published its heater's state, retained, and readings by now; nobody may see them.
  await thermostat.reaches('running');
  await until('it measured something', async () => (await thermostat.temperature()) > 0);
  await stop('demo-device');
  t.after(() => start('demo-device'));
  const diary = await Diary.connect(person, { devices: [QUIET] });
  await diary.waitForState('live');
  await diary.card(QUIET).getByText('Waiting for data').waitFor();
  await diary.card(QUIET).getByText('The device has not said yet').waitFor();
  await shot(diary.page, 'tpa-waiting');
  assert.equal(await diary.points(QUIET), 0, await diary.card(QUIET).innerText());
  await start('demo-device');
  await diary.waitForReadings(QUIET);
});

test('what is wanted of a device that is away waits for it', async (t) => {
  const { thermostat, person } = await owned(t, 'carol', WANTED);
  const diary = await Diary.connect(person, { devices: [WANTED] });
  await diary.waitForReadings(WANTED);
  await diary.switchHeater(WANTED, true);
  await diary.switchHeater(WANTED, false);
  await stop('demo-device');
  t.after(() => start('demo-device'));
  await diary.heater(WANTED).click();
  await diary.card(WANTED).getByText('waits until the device is back').waitFor();
  await shot(diary.page, 'tpa-wanted');
  await start('demo-device');
  await diary.card(WANTED).getByText('On, confirmed by the device').waitFor({ timeout: 60_000 });
  await until('the thermostat heats', () => thermostat.isHeating());
});

test('a released device disappears from the app while the other one stays', async (t) => {
  const { workshop, person } = await owned(t, 'bob', STAYS);
  const going = await workshop.takeOne();
  await claim(person, going, GOES);
  const diary = await Diary.connect(person, { devices: [STAYS, GOES] });
  await diary.waitForReadings(STAYS);
  await diary.waitForReadings(GOES);
  await person.release(GOES, await person.newTab());
  await diary.card(GOES).waitFor({ state: 'detached' });
  await diary.waitForReadings(STAYS);
  await going.reaches('ready');
});

test('withdrawing ends the app’s session within a second', async (t) => {
  const { person } = await owned(t, 'alice', WITHDRAWN);
  const diary = await Diary.connect(person, { devices: [WITHDRAWN] });
  await diary.waitForReadings(WITHDRAWN);
  await diary.page.evaluate(() => {
    new MutationObserver((_, observer) => {
      window.endedAt = Date.now();
      observer.disconnect();
    }).observe(document.getElementById('status'), { attributes: true, attributeFilter: ['data-state'] });
  });
  const account = await person.newTab();
  await person.openAccount(account);
  await shot(account, 'didp-account-app');
  // All grants of the app: earlier tests left some.
  for (;;) {
    const buttons = account.getByRole('button', { name: 'Withdraw Heating Diary' });
    if ((await buttons.count()) === 0) break;
    const asked = Date.now();
    await buttons.first().click();
    await account.getByText('Withdrawn.').waitFor();
    t.diagnostic(`withdrawn in ${Date.now() - asked} ms`);
  }
  const done = Date.now();
  await diary.waitForState('withdrawn');
  const ended = await diary.page.evaluate(() => window.endedAt);
  assert.ok(ended - done < 1000, `the session ended ${ended - done} ms after the page said that it was withdrawn`);
  await shot(diary.page, 'tpa-withdrawn');
  assert.equal(await diary.cards.count(), 0);
});

test('disconnecting at the app gives the grant back', async (t) => {
  const { person } = await owned(t, 'carol', GIVEN_BACK);
  const diary = await Diary.connect(person, { devices: [GIVEN_BACK] });
  await diary.waitForState('live');
  await person.page.getByRole('button', { name: 'Disconnect' }).click();
  await person.page.getByText('Nothing about your home is kept here.').waitFor();
  await person.openAccount();
  const app = person.page.locator('article', { hasText: GIVEN_BACK }).filter({ hasText: 'Heating Diary' });
  assert.equal(await app.count(), 0);
});
