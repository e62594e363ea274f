/** How exactly an app sees a reading: the owner chooses at consent, sees it in the app, and changes it on their own page. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { claim } from '../lib/claim.js';
import { Diary } from '../lib/diary.js';
import { Person, named, shot, useBrowser } from '../lib/person.js';
import { until } from '../lib/until.js';
import { Workshop } from '../lib/workshop.js';

useBrowser({ before, after });

const ROUNDED = named('Rounded');
const NARROWED = named('Narrowed');

/** A fresh thermostat that `who` owns under `name`. */
async function owned(t, who, name) {
  const workshop = await Workshop.open(t);
  const thermostat = await workshop.takeOne();
  const person = await Person.withPhone(t, who);
  await claim(person, thermostat, name);
  return { thermostat, person };
}

test('an owner rounds a reading, and later lets the app see its average only', async (t) => {
  const { thermostat, person } = await owned(t, 'alice', ROUNDED);
  const exactly = { 'Temperature (°C)': 'Rounded to 1 °C' };
  const diary = await Diary.connect(person, { devices: [ROUNDED], exactly, pictures: 'didp-consent-exactly' });
  await diary.waitForReadings(ROUNDED);
  const { number, exactly: words } = diary.reading(ROUNDED, 'temperature');
  assert.equal(await words.innerText(), 'rounded to 1 °C');
  const seen = new Set();
  await diary.switchHeater(ROUNDED, true);
  await until('the rounded temperature rises', async () => seen.add(await number.innerText()).size >= 3, 90_000);
  for (const one of seen) assert.match(one, /^\d+\.0$/, 'no tenth of a degree gets through');
  await until('the thermostat itself shows tenths', async () => !Number.isInteger(await thermostat.temperature()));
  await shot(diary.page, 'tpa-diary-rounded');

  const account = await person.newTab();
  const card = await person.openChanges('Heating Diary', ROUNDED, account);
  const select = card.locator('.device').filter({ hasText: ROUNDED }).getByLabel('Temperature (°C)', { exact: true });
  assert.equal(await select.locator('option:checked').innerText(), 'Rounded to 1 °C');
  await select.selectOption({ label: 'Average over a minute' });
  await shot(account, 'didp-account-change');
  await card.getByRole('button', { name: 'Save', exact: true }).click();
  await account.getByText('From now on this is what the app may see and do').waitFor();
  await account.getByText('average over a minute').first().waitFor();

  await until('the app says so', async () => (await words.innerText()) === 'average over a minute', 45_000);
  assert.equal(await diary.points(ROUNDED), 0, 'what came under the other choice is forgotten');
  await until('two averages are drawn', async () => (await diary.points(ROUNDED)) >= 2, 200_000);
  await shot(diary.page, 'tpa-diary-average');
});

test('an owner takes a command away, gives it back, and cannot take everything', async (t) => {
  const { person } = await owned(t, 'bob', NARROWED);
  const diary = await Diary.connect(person, { devices: [NARROWED] });
  await diary.waitForReadings(NARROWED);
  await diary.heater(NARROWED).waitFor();
  const account = await person.newTab();
  const card = await person.openChanges('Heating Diary', NARROWED, account);
  const own = (form) => form.locator('.device').filter({ hasText: NARROWED });
  await own(card).getByLabel(/^Heater\s*command/).setChecked(false);
  await card.getByRole('button', { name: 'Save', exact: true }).click();
  await account.getByText('From now on this is what the app may see and do').waitFor();
  await diary.heater(NARROWED).waitFor({ state: 'hidden', timeout: 45_000 });
  await diary.waitForReadings(NARROWED);

  const again = await person.openChanges('Heating Diary', NARROWED, account);
  assert.equal(await own(again).getByLabel(/^Heater\s*command/).isChecked(), false);
  await own(again).getByLabel(/^Heater\s*command/).setChecked(true);
  await again.getByRole('button', { name: 'Save', exact: true }).click();
  await account.getByText('From now on this is what the app may see and do').waitFor();
  await diary.heater(NARROWED).waitFor({ timeout: 45_000 });

  const nothing = await person.openChanges('Heating Diary', NARROWED, account);
  for (const box of await nothing.locator('input[name=device]').all()) await box.setChecked(false);
  await nothing.getByRole('button', { name: 'Save', exact: true }).click();
  await account.getByText('Choose at least one device').waitFor();
  await diary.waitForReadings(NARROWED);
});
