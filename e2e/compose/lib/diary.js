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
   * @param {{devices?: string[], command?: boolean, names?: boolean, pictures?: boolean}} choice
   */
  static async connect(person, { devices, command = true, names = true, pictures = false } = {}, page = person.page) {
    const diary = await Diary.ask(person, page);
    for (const label of await page.locator('label:has(input[name=device])').all()) {
      const text = await label.innerText();
      await label.locator('input').setChecked(!devices || devices.some((name) => text.startsWith(name)));
    }
    await page.getByLabel(/^See readings/).setChecked(true);
    await page.getByLabel(/^Send commands/).setChecked(command);
    await page.getByLabel(/^Tell it my names/).setChecked(names);
    if (pictures) await shot(page, 'didp-consent');
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

  heater(name) {
    return this.card(name).getByRole('switch', { name: 'Heater' });
  }

  /** Presses the switch and waits for the device's own word. */
  async switchHeater(name, on) {
    await this.heater(name).click();
    await this.card(name).getByText(`${on ? 'On' : 'Off'}, confirmed by the device`).waitFor();
  }
}
