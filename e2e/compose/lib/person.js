/** A person with a phone: a browser context of their own, and a login at one of the demo's providers. */
import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { artefacts, urls } from './stack.js';

const PHONE = { width: 390, height: 844 };
const DESK = { width: 1280, height: 800 };
const PATIENCE = 20_000;

const SWITCHES = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** The four people: which provider knows them, and how it calls them. */
const LOGINS = {
  alice: { provider: 'Demo ID', button: /Alice Arden/ },
  bob: { provider: 'Demo ID', button: /Bob Brook/ },
  carol: { provider: 'Demo Hub', button: /Carol Clay/ },
  dan: { provider: 'Demo Hub', button: /Dan Dale/ },
};

/** Tells apart what several runs on one deployment leave behind. */
const RUN = randomBytes(2).toString('hex');

/** A device's name that no other run gave. */
export const named = (name) => `${name} ${RUN}`;

let browser;

/** Starts Chromium once for a test file and ends it after the file's last test. */
export function useBrowser({ before, after }) {
  before(async () => {
    await mkdir(artefacts, { recursive: true });
    browser = await chromium.launch({ executablePath: process.env.OAUTHING_CHROMIUM || '/usr/bin/chromium', args: SWITCHES });
  });
  after(() => browser?.close());
}

/** A page that belongs to nobody in particular, for the factory and the devices' panel. */
export async function openPage(t) {
  const context = await browser.newContext({ viewport: DESK });
  return watched(t, context, await context.newPage());
}

/** Patience, and an end: what a page complains about fails the test. */
function watched(t, context, page) {
  context.setDefaultTimeout(PATIENCE);
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(`${page.url()}: ${error}`));
  page.on('console', (message) => {
    if (/Content.Security.Policy|Refused to/i.test(message.text())) complaints.push(`${page.url()}: ${message.text()}`);
  });
  t.after(async () => {
    await context.close();
    if (complaints.length > 0) throw new Error(`a page complained: ${complaints.join('; ')}`);
  });
  return page;
}

export class Person {
  /** @param {keyof LOGINS} who */
  static async withPhone(t, who) {
    const context = await browser.newContext({ viewport: PHONE, hasTouch: true });
    const person = new Person();
    person.who = who;
    person.context = context;
    person.page = watched(t, context, await context.newPage());
    return person;
  }

  /** Another tab in the same browser. */
  async newTab() {
    const page = await this.context.newPage();
    return page;
  }

  /** On the DIdP's page of providers: chooses one, and logs in there. */
  async logIn(page = this.page, name = this.who) {
    const { provider, button } = LOGINS[this.who];
    await page.getByRole('link', { name: `Continue with ${provider}` }).waitFor();
    await shot(page, 'didp-login');
    await page.getByRole('link', { name: `Continue with ${provider}` }).click();
    await page.getByRole('button', { name: button }).waitFor();
    await shot(page, name === this.who ? `idp-${provider === 'Demo ID' ? 'openid' : 'github'}` : name);
    await page.getByRole('button', { name: button }).click();
  }

  /** The owner's page at the DIdP, logged in. */
  async openAccount(page = this.page) {
    await page.goto(`${urls.didp}/account`);
    const title = page.getByRole('heading', { level: 1 });
    await title.waitFor();
    if (await page.getByRole('link', { name: /^Continue with/ }).count()) await this.logIn(page);
    await page.getByRole('heading', { name: 'Your devices and apps' }).waitFor();
    return page;
  }

  /** Releases the device of that name. */
  async release(name, page = this.page) {
    await this.openAccount(page);
    await page.getByRole('link', { name: `Release ${name}` }).click();
    await shot(page, 'didp-release');
    await page.getByRole('button', { name: 'Release it' }).click();
    await page.getByText('Released.').waitFor();
  }

  /** The owner's page of an app that has that device, with everything unfolded. */
  async openChanges(app, device, page = this.page) {
    await this.openAccount(page);
    const card = page.locator('article', { has: page.getByRole('heading', { name: app, exact: true }) }).filter({ hasText: device }).first();
    await card.getByRole('link', { name: `See and change ${app}` }).click();
    await page.getByRole('heading', { name: `What ${app} may see and do` }).waitFor();
    await page.evaluate(() => document.querySelectorAll('details').forEach((one) => (one.open = true)));
    return page.getByRole('main');
  }

  /** Withdraws what the app of that name may do. */
  async withdraw(app, page = this.page) {
    await this.openAccount(page);
    await shot(page, 'didp-account');
    await page.getByRole('button', { name: `Withdraw ${app}` }).first().click();
    await page.getByText('Withdrawn.').waitFor();
  }
}

/** Keeps a picture of the page as a phone, a phone at night and a desk show it. */
export async function shot(page, name) {
  const before = page.viewportSize();
  for (const [suffix, viewport, colorScheme] of [
    ['390', PHONE, 'light'],
    ['390-dark', PHONE, 'dark'],
    ['1280', DESK, 'light'],
  ]) {
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: join(artefacts, `${name}-${suffix}.png`), fullPage: true });
  }
  await page.emulateMedia({ colorScheme: null });
  await page.setViewportSize(before);
}
