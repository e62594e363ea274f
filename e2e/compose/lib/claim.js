/** Claiming, as an owner does it on the phone. */
import { shot } from './person.js';

/** Opens the address of a printed code and logs in if the DIdP asks for it; ends at the page that asks for the digits. */
export async function openCode(person, uru, page = person.page) {
  await page.goto(uru);
  await page.getByRole('heading', { level: 1 }).waitFor();
  if (await page.getByRole('link', { name: /^Continue with/ }).count()) await person.logIn(page);
  await page.getByRole('heading', { name: 'Is the device in front of you?' }).waitFor();
}

/** Types what the device shows. */
export async function typeCode(page, digits) {
  await page.getByLabel('Type the code it shows').fill(digits);
  await page.getByRole('button', { name: 'Continue' }).click();
}

/** The page that describes the device and asks for the decision. */
export async function waitForDecision(page) {
  await page.getByText('You are about to claim').waitFor();
}

/** Claims or declines. */
export async function decide(page, { name = '', decision = 'Claim' } = {}) {
  if (name) await page.getByLabel(/^Name/).fill(name);
  await page.getByRole('button', { name: decision, exact: true }).click();
}

/**
 * The whole claim: opens the code, presses the device's button, types the digits, claims, and waits until the page says
 * that the device is the person's own.
 * @param {import('./workshop.js').Thermostat} thermostat
 */
export async function claim(person, thermostat, name, { pictures = false } = {}) {
  const { page } = person;
  await openCode(person, thermostat.uru);
  if (pictures) await shot(page, 'didp-claim-code');
  await typeCode(page, await thermostat.press());
  await waitForDecision(page);
  if (pictures) await shot(page, 'didp-claim-decide');
  await decide(page, { name });
  await page.getByRole('heading', { name: /is yours$/ }).waitFor();
  if (pictures) await shot(page, 'didp-claim-done');
  await thermostat.reaches('running');
}
