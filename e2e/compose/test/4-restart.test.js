/** Every service is restarted in the middle of it all, one after the other; afterwards readings and commands flow again. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { claim } from '../lib/claim.js';
import { Diary } from '../lib/diary.js';
import { Person, named, shot, useBrowser } from '../lib/person.js';
import * as pcm from '../lib/pcm.js';
import { docker, restart, start, stop } from '../lib/stack.js';
import { until } from '../lib/until.js';
import { Workshop } from '../lib/workshop.js';

useBrowser({ before, after });

const SURVIVOR = named('Survivor');

const SERVICES = ['demo-idp', 'factory', 'tpa', 'didp', 'ignite-launcher', 'ignite', 'demo-device'];

test('every service can be restarted, and a broker killed', { timeout: 900_000 }, async (t) => {
  const workshop = await Workshop.open(t);
  const thermostat = await workshop.takeOne();
  const person = await Person.withPhone(t, 'bob');
  await claim(person, thermostat, SURVIVOR);
  const diary = await Diary.connect(person, { devices: [SURVIVOR] });
  await diary.waitForReadings(SURVIVOR);

  /** Readings go on in the same page without a reload, and a command is confirmed. */
  const flows = async (on) => {
    await diary.waitForState('live');
    const before = await diary.points(SURVIVOR);
    await until('readings flow again', async () => (await diary.points(SURVIVOR)) > before, 60_000);
    await until('the thermostat obeys', async () => {
      if ((await thermostat.isHeating()) === on) return true;
      if ((await diary.heater(SURVIVOR).getAttribute('data-busy')) === null) await diary.heater(SURVIVOR).click();
      return false;
    }, 60_000);
  };

  let on = true;
  for (const service of SERVICES) {
    await t.test(`${service} restarts`, async () => {
      await restart(service);
      await flows(on);
      on = !on;
    });
  }

  await t.test('the owner’s broker dies', async () => {
    for (const name of await pcm.names()) await docker('kill', name);
    await until('a broker runs again', async () => {
      const all = await Promise.all((await pcm.names()).map(pcm.describe));
      return all.some((broker) => broker.running);
    }, 60_000);
    await flows(on);
  });

  await t.test('while the gateway is off the page says so', async () => {
    await stop('ignite');
    await diary.waitForState('gateway_away');
    await shot(diary.page, 'tpa-gateway-away');
    await start('ignite');
    await diary.waitForState('live');
  });

  await t.test('what was claimed and allowed is still there', async () => {
    const account = await person.openAccount(await person.newTab());
    assert.equal(await account.getByRole('heading', { name: SURVIVOR, level: 3 }).count(), 1);
    assert.ok((await account.getByRole('button', { name: 'Withdraw Heating Diary' }).count()) > 0);
    await diary.waitForReadings(SURVIVOR);
  });
});
