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

const json = (page, path) => page.evaluate(async (path) => (await fetch(path, { cache: 'no-store' })).json(), path);

/** One thermostat: its label from the factory, its button and display on the panel. */
export class Thermostat {
  constructor(panel, n, label) {
    this.panel = panel;
    this.n = n;
    this.hardwareId = label.hardware_id;
    this.uru = label.uru;
  }

  /** What its process tells the panel. */
  async state() {
    return (await json(this.panel, '/thermostats.json')).find((shown) => shown.n === this.n)?.state;
  }

  /** Waits until it stands there in its life. */
  reaches(phase, milliseconds = 60_000) {
    return until(`thermostat ${this.n} is ${phase}`, async () => (await this.state())?.phase === phase, milliseconds);
  }

  async #touch(what) {
    const ok = await this.panel.evaluate(async (path) => (await fetch(path, { method: 'POST', redirect: 'manual' })).status < 400, `/thermostats/${this.n}/${what}`);
    if (!ok) throw new Error(`the panel refused to ${what} thermostat ${this.n}`);
  }

  /** Presses its button and reads the digits on its display. */
  async press() {
    const former = (await this.state())?.code;
    await this.#touch('press');
    const state = await until(`thermostat ${this.n} shows digits`, async () => {
      const now = await this.state();
      return now?.phase === 'claimable' && now.code && now.code !== former && now;
    });
    return state.code;
  }

  /** A long press: gives up its owner. */
  hold() {
    return this.#touch('hold');
  }
}

export class Workshop {
  static async open(t) {
    const workshop = new Workshop();
    workshop.factory = await openPage(t);
    workshop.panel = await openPage(t);
    await workshop.factory.goto(urls.factory);
    await workshop.panel.goto(urls.panel);
    return workshop;
  }

  /** Labels that the factory printed for flashed devices. */
  async #labels() {
    return (await json(this.factory, '/devices.json')).filter((device) => device.flashed && device.uru);
  }

  /** All thermostats that are flashed. */
  async thermostats() {
    const labels = await this.#labels();
    const shown = await json(this.panel, '/thermostats.json');
    return shown
      .map(({ n, state }) => ({ n, label: labels.find((label) => label.hardware_id === state?.hardware_id) }))
      .filter(({ label }) => label)
      .map(({ n, label }) => new Thermostat(this.panel, n, label));
  }

  /** A thermostat that nobody owns, fresh from the factory. */
  async makeOne() {
    const before = (await this.thermostats()).map((one) => one.hardwareId);
    await this.factory.goto(urls.factory);
    await this.factory.getByRole('button', { name: /Make/ }).first().click();
    const made = await until('the factory made another thermostat', async () => (await this.thermostats()).find((one) => !before.includes(one.hardwareId)), 60_000);
    await made.reaches('ready');
    return made;
  }

  /** What another program reads in the picture of the thermostat's QR label, as it is printed on the factory's page. */
  async scan(thermostat) {
    await this.factory.goto(urls.factory);
    const label = this.factory.locator('img[src$=".png"]', { visible: true });
    const bytes = await this.factory.evaluate(async (path) => {
      const answer = await fetch(path);
      return [...new Uint8Array(await answer.arrayBuffer())];
    }, await this.#picture(label, thermostat));
    return decode(Buffer.from(bytes));
  }

  async #picture(images, thermostat) {
    const sources = await images.evaluateAll((all) => all.map((image) => image.getAttribute('src')));
    const source = sources.find((one) => one.includes(thermostat.hardwareId)) ?? sources.at(-1);
    if (!source) throw new Error('the factory shows no QR label');
    return source;
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
