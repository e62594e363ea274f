/** The sample app's pages, and the DIdP's consent page that leads there. */
import { shot } from './person.js';
import { urls } from './stack.js';

export class Diary {
  constructor(page) {
    this.page = page;
  }

  /** Opens the landing page and goes to the DIdP; ends at the consent page. */
  static async ask(person, page = person.page) {
    await page.goto(urls.tpa);
    await page.getByRole('link', { name: /^Connect/ }).click();
    await page.getByRole('heading', { level: 1 }).waitFor();
    if (await page.getByRole('link', { name: /^Continue with/ }).count()) await person.logIn(page);
    await page.getByRole('heading', { name: 'Let Heating Diary use your devices?' }).waitFor();
    return new Diary(page);
  }

  /**
   * Asks and is allowed: only the devices of these names, all if none are given.
   * @param {{devices?: string[], command?: boolean, names?: boolean, exactly?: Record<string, string>, pictures?: boolean | string}} choice
   *   `exactly` says how exactly readings are seen: what the page calls a channel, and what it offers
   */
  static async connect(person, { devices, command = true, names = true, exactly = {}, pictures = false } = {}, page = person.page) {
    const diary = await Diary.ask(person, page);
    for (const label of await page.locator('label:has(input[name=device])').all()) {
      const text = await label.innerText();
      await label.locator('input').setChecked(!devices || devices.some((name) => text.startsWith(name)));
    }
    await page.getByLabel(/^See readings/).setChecked(true);
    await page.getByLabel(/^Send commands/).setChecked(command);
    await page.getByLabel(/^Tell it my names/).setChecked(names);
    for (const fold of await page.locator('details.exact:not([open]) > summary:visible').all()) if (Object.keys(exactly).length > 0) await fold.click();
    for (const [channel, words] of Object.entries(exactly)) {
      for (const list of await page.getByLabel(channel, { exact: true }).and(page.locator('select:visible')).all()) await list.selectOption({ label: words });
    }
    if (pictures) await shot(page, typeof pictures === 'string' ? pictures : 'didp-consent');
    await page.getByRole('button', { name: 'Allow', exact: true }).click();
    await page.waitForURL(`${urls.tpa}/diary`);
    return diary;
  }

  /** What the page says of its connection: `live`, `withdrawn`, … */
  waitForState(state) {
    return this.page.locator(`#status[data-state="${state}"]`).waitFor({ state: 'attached' });
  }

  /** The card of the device of that name. */
  card(name) {
    return this.page.locator('.device', { has: this.page.getByRole('heading', { name, exact: true }) });
  }

  get cards() {
    return this.page.locator('.device');
  }

  /** Waits until readings of that device come in. */
  waitForReadings(name) {
    return this.card(name).locator('.pill[data-state=live]').waitFor();
  }

  /** How many readings the chart of that device holds. */
  async points(name) {
    const line = this.card(name).locator('.chart .line').first();
    return (await line.count()) ? (await line.getAttribute('points')).split(' ').length : 0;
  }

  /** A channel's reading on that device's card: its number, and how exact the page says that it is. */
  reading(name, channel) {
    const part = this.card(name).locator(`.reading[data-channel="${channel}"]`);
    return { number: part.locator('.number'), exactly: part.locator('.exactly') };
  }

  heater(name) {
    return this.card(name).getByRole('switch', { name: 'Heater' });
  }

  /** Presses the switch and waits for the device's own word. */
  async switchHeater(name, on) {
    await this.heater(name).click();
    await this.card(name).getByText(`${on ? 'On' : 'Off'}, confirmed by the device`).waitFor();
  }
}
