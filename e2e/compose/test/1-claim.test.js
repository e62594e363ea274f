/** Claiming a device: the way it should go, and every way in which it does not. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { claim, decide, openCode, typeCode, waitForDecision } from '../lib/claim.js';
import { Person, named, shot, useBrowser } from '../lib/person.js';
import { kill, start, urls } from '../lib/stack.js';
import { Workshop } from '../lib/workshop.js';

useBrowser({ before, after });

const KITCHEN = named('Kitchen');
const AFTER_A_NO = named('After a no');
const AFTER_NOBODY = named('After nobody');
const TAKEN = named('Taken');
const NEVER = named('Never');
const AFTER_A_POWER_CUT = named('After a power cut');

const NO_MATCH = /^That did not work\./;

test('an owner scans the label, presses the button, types the digits, and the device is theirs without a reload', async (t) => {
  const workshop = await Workshop.open(t);
  await shot(workshop.factory, 'factory');
  const thermostat = await workshop.makeOne();
  const scanned = await workshop.scan(thermostat);
  assert.equal(scanned, thermostat.uru, 'another program reads the same address in the picture');
  assert.ok(scanned.startsWith(`${urls.didp}/r/`));

  const alice = await Person.withPhone(t, 'alice');
  const { page } = alice;
  await openCode(alice, scanned);
  await shot(page, 'didp-claim-code');
  const digits = await thermostat.press();
  await shot(workshop.panel, 'panel-claimable');
  assert.match(digits, /^\d{4}$/);
  await typeCode(page, digits);
  await waitForDecision(page);
  await shot(page, 'didp-claim-decide');
  let loads = 0;
  page.on('request', (request) => (loads += request.isNavigationRequest() && request.method() === 'GET' ? 1 : 0));
  await decide(page, { name: KITCHEN });
  await page.getByRole('heading', { name: /is yours$/ }).waitFor();
  assert.equal(loads, 1, 'one redirect after the form, and no reload after it');
  await shot(page, 'didp-claim-done');
  await thermostat.reaches('running');
  await alice.openAccount();
  await page.getByRole('heading', { name: KITCHEN }).first().waitFor();
  await shot(page, 'didp-account');
});

test('declining leaves nothing: the same label can be claimed afterwards', async (t) => {
  const workshop = await Workshop.open(t);
  const thermostat = await workshop.takeOne();
  const alice = await Person.withPhone(t, 'alice');
  await openCode(alice, thermostat.uru);
  await typeCode(alice.page, await thermostat.press());
  await waitForDecision(alice.page);
  await decide(alice.page, { decision: 'Decline' });
  await alice.page.getByRole('heading', { name: 'Declined' }).waitFor();
  await shot(alice.page, 'didp-claim-declined');
  await thermostat.reaches('ready');
  const bob = await Person.withPhone(t, 'bob');
  await claim(bob, thermostat, AFTER_A_NO);
});

test('a page that is closed half-way leaves nothing, and locks nobody out', async (t) => {
  const workshop = await Workshop.open(t);
  const thermostat = await workshop.takeOne();
  const alice = await Person.withPhone(t, 'alice');
  await openCode(alice, thermostat.uru);
  await typeCode(alice.page, await thermostat.press());
  await waitForDecision(alice.page);
  await alice.page.close();
  const carol = await Person.withPhone(t, 'carol');
  await claim(carol, thermostat, AFTER_NOBODY);
});

test('a wrong code, an unpressed, an unknown and an owned device give the same page', async (t) => {
  const workshop = await Workshop.open(t);
  const [unpressed, owned] = [await workshop.takeOne(), await workshop.takeOne()];
  const bob = await Person.withPhone(t, 'bob');
  await claim(bob, owned, TAKEN);
  const alice = await Person.withPhone(t, 'alice');
  const pages = [];
  const look = async (uru, digits) => {
    await openCode(alice, uru);
    const asked = await alice.page.locator('main').innerText();
    await typeCode(alice.page, digits);
    await alice.page.getByText(NO_MATCH).waitFor();
    pages.push([asked, await alice.page.locator('main').innerText()]);
  };
  await look(unpressed.uru, '1234');
  await shot(alice.page, 'didp-claim-no-match');
  await look(`${urls.didp}/r/${'A'.repeat(22)}`, '1234');
  await look(owned.uru, '1234');
  const digits = await unpressed.press();
  await look(unpressed.uru, digits === '0000' ? '0001' : '0000');
  for (const page of pages) assert.deepEqual(page, pages[0]);
});

test('a used code is worth nothing, a second press gives another one', async (t) => {
  const workshop = await Workshop.open(t);
  const thermostat = await workshop.takeOne();
  const alice = await Person.withPhone(t, 'alice');
  const digits = await thermostat.press();
  await openCode(alice, thermostat.uru);
  await typeCode(alice.page, digits);
  await waitForDecision(alice.page);
  await decide(alice.page, { decision: 'Decline' });
  await alice.page.getByRole('heading', { name: 'Declined' }).waitFor();
  await openCode(alice, thermostat.uru);
  await typeCode(alice.page, digits);
  await alice.page.getByText(NO_MATCH).waitFor();
});

test('a device that goes away in the middle is said to be away, and nothing is half done', async (t) => {
  const workshop = await Workshop.open(t);
  const thermostat = await workshop.takeOne();
  const alice = await Person.withPhone(t, 'alice');
  await openCode(alice, thermostat.uru);
  await typeCode(alice.page, await thermostat.press());
  await waitForDecision(alice.page);
  await kill('demo-device');
  t.after(() => start('demo-device'));
  await decide(alice.page, { name: NEVER });
  await alice.page.getByRole('heading', { name: 'The device went away' }).waitFor();
  await shot(alice.page, 'didp-claim-gone');
  await alice.openAccount();
  assert.equal(await alice.page.getByRole('heading', { name: NEVER }).count(), 0);

  // While it is off, its code is like any unpressed one.
  await openCode(alice, thermostat.uru);
  await typeCode(alice.page, '1234');
  await alice.page.getByText(NO_MATCH).waitFor();

  await start('demo-device');
  await thermostat.reaches('ready');
  await claim(alice, thermostat, AFTER_A_POWER_CUT);
});
