/** The factory that makes thermostats, and the panel on which they stand. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { openPage } from './person.js';
import { urls } from './stack.js';
import { until } from './until.js';

const run = promisify(execFile);

/** Hardware ids of the thermostats that tests of this file have or had. */
const taken = new Set();

/** One thermostat: its label from the factory, its button, lamp and display on the panel. */
export class Thermostat {
  constructor(panel, n, hardwareId, uru) {
    this.panel = panel;
    this.n = n;
    this.hardwareId = hardwareId;
    this.uru = uru;
    this.card = panel.locator(`[data-thermostat="${n}"]`);
  }

  #part(role) {
    return this.card.locator(`[data-role="${role}"]`);
  }

  /** Waits until it stands there in its life. */
  reaches(phase, timeout = 60_000) {
    return this.panel.locator(`[data-thermostat="${this.n}"][data-phase="${phase}"]`).waitFor({ timeout });
  }

  /** Presses its button and reads the digits on its display. */
  async press() {
    const code = this.#part('code');
    const former = await code.textContent();
    await this.#part('button').click();
    return until(`thermostat ${this.n} shows digits`, async () => {
      const shown = await code.textContent();
      return /^\d{4}$/.test(shown) && shown !== former && shown;
    });
  }

  /** A long press: gives up its owner. */
  hold() {
    return this.#part('hold').click();
  }

  async isHeating() {
    return (await this.#part('heater').textContent()) === 'on';
  }

  /** °C, or NaN if it has no power. */
  async temperature() {
    return Number.parseFloat(await this.#part('temperature').textContent());
  }
}

export class Workshop {
  static async open(t) {
    const workshop = new Workshop();
    workshop.factory = await openPage(t);
    workshop.panel = await openPage(t);
    await workshop.factory.goto(urls.factory);
    await workshop.panel.goto(urls.panel);
    await workshop.panel.locator('#link[data-live=true]').waitFor();
    return workshop;
  }

  /** The factory's note of a device, by the hardware id that is engraved on it. */
  #note(hardwareId) {
    return this.factory.locator('article.device', { hasText: hardwareId });
  }

  async #hardwareIds() {
    return (await this.panel.locator('[data-role="hardware"]').allTextContents()).filter(Boolean);
  }

  /** A thermostat that nobody owns and no test of this file had: one that stands there, or a new one. */
  async takeOne() {
    for (const card of await this.panel.locator('.thermostat[data-phase=ready]').all()) {
      const hardwareId = await card.locator('[data-role="hardware"]').textContent();
      if (!taken.has(hardwareId)) return this.#take(hardwareId);
    }
    return this.makeOne();
  }

  /** A thermostat fresh from the factory. */
  async makeOne() {
    const before = await this.#hardwareIds();
    await this.factory.getByRole('button', { name: 'Make another one' }).click();
    const made = await until('another thermostat is on the panel', async () => (await this.#hardwareIds()).find((id) => !before.includes(id)), 60_000);
    return this.#take(made);
  }

  async #take(made) {
    taken.add(made);
    const note = this.#note(made).filter({ hasText: 'flashed' });
    await note.waitFor({ timeout: 60_000 });
    const uru = await note.locator('[data-role="uru"]').getAttribute('href');
    const n = await this.panel.locator('.thermostat', { hasText: made }).getAttribute('data-thermostat');
    const thermostat = new Thermostat(this.panel, Number(n), made, uru);
    await thermostat.reaches('ready');
    return thermostat;
  }

  /** What another program reads in the picture of the thermostat's QR code that the factory gives. */
  async scan(thermostat) {
    const path = await this.#note(thermostat.hardwareId).locator('a[href$=".png"]').getAttribute('href');
    const bytes = await this.factory.evaluate(async (path) => {
      const answer = await fetch(path);
      return [...new Uint8Array(await answer.arrayBuffer())];
    }, path);
    return decode(Buffer.from(bytes));
  }
}

/** Decodes a picture with zbarimg. */
async function decode(png) {
  const folder = await mkdtemp(join(tmpdir(), 'label-'));
  try {
    const file = join(folder, 'label.png');
    await writeFile(file, png);
    const { stdout } = await run('zbarimg', ['--quiet', '--raw', file]);
    return stdout.trim();
  } finally {
    await rm(folder, { recursive: true });
  }
}
