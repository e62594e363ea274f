/**
 * Every page of the DIdP, as `cargo xtask test pages` renders it (every template, in every language, with typical content),
 * held against WCAG 2.2 AA by axe: as a phone and as a desk show it, by day and by night, under the policy that the DIdP sends.
 *
 * With `OAUTHING_SHOTS` set, a picture of each is left there.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { mkdir, readFile, readdir } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';

const folder = process.env.OAUTHING_PAGES;
assert.ok(folder, 'OAUTHING_PAGES names the folder with the rendered pages');
const shots = process.env.OAUTHING_SHOTS;

const STANDARDS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
const LOOKS = [
  { name: '390', viewport: { width: 390, height: 844 }, colorScheme: 'light' },
  { name: '390-dark', viewport: { width: 390, height: 844 }, colorScheme: 'dark' },
  { name: '1280', viewport: { width: 1280, height: 800 }, colorScheme: 'light' },
  { name: '1280-dark', viewport: { width: 1280, height: 800 }, colorScheme: 'dark' },
];
/** WCAG 1.4.10: at this width nothing has to be scrolled in two directions. */
const NARROWEST = 320;

const TYPES = { '.html': 'text/html; charset=utf-8', '.css': 'text/css', '.js': 'text/javascript', '.svg': 'image/svg+xml' };

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const policy = (await readFile(join(folder, 'policy.txt'), 'utf8')).trim();
const names = (await readdir(folder)).filter((name) => name.endsWith('.html')).sort();

let server;
let browser;

before(async () => {
  assert.ok(names.length >= 40, `only ${names.length} pages were rendered`);
  if (shots) await mkdir(shots, { recursive: true });
  server = createServer(async (request, response) => {
    const path = new URL(request.url, 'http://pages').pathname;
    try {
      const body = await readFile(join(folder, path));
      response.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'text/plain', 'content-security-policy': policy });
      response.end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  browser = await chromium.launch({
    executablePath: process.env.OAUTHING_CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  });
});

after(async () => {
  await browser?.close();
  server?.close();
});

for (const look of LOOKS) {
  test(`${names.length} pages at ${look.name}`, async (t) => {
    const context = await browser.newContext({ viewport: look.viewport, colorScheme: look.colorScheme });
    t.after(() => context.close());
    const page = await context.newPage();
    const complaints = [];
    page.on('console', (message) => {
      if (/Content.Security.Policy|Refused to/i.test(message.text())) complaints.push(`${page.url()}: ${message.text()}`);
    });
    let checked = 0;
    for (const name of names) {
      await page.goto(`http://127.0.0.1:${server.address().port}/${name}`);
      await unfold(page);
      if (shots) await page.screenshot({ path: join(shots, `${name.replace(/\.html$/, '')}-${look.name}.png`), fullPage: true });
      // By the debugger, which the page's policy does not concern.
      await page.evaluate(axe);
      const { violations, passes } = await page.evaluate(
        (tags) => window.axe.run(document, { runOnly: { type: 'tag', values: tags }, resultTypes: ['violations', 'passes'] }),
        STANDARDS,
      );
      assert.deepEqual(
        violations.map(({ id, nodes }) => ({ id, at: nodes.map((node) => `${node.target} ${node.failureSummary}`) })),
        [],
        `${name} at ${look.name}`,
      );
      assert.ok(passes.some(({ id }) => id === 'color-contrast'), `${name}: contrast was not looked at`);
      checked += passes.length;
    }
    assert.ok(checked > names.length * 10, 'axe looked at little');
    assert.deepEqual(complaints, [], 'the policy that the DIdP sends allows what its pages need');
  });
}

test(`no page has to be scrolled sideways at ${NARROWEST}`, async (t) => {
  const context = await browser.newContext({ viewport: { width: NARROWEST, height: 640 } });
  t.after(() => context.close());
  const page = await context.newPage();
  for (const name of names.filter((one) => !one.startsWith('print-'))) {
    await page.goto(`http://127.0.0.1:${server.address().port}/${name}`);
    await unfold(page);
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= NARROWEST, `${name} is ${width} wide`);
  }
});

test('a page that breaks the rules is found', async (t) => {
  const page = await browser.newPage();
  t.after(() => page.close());
  await page.setContent('<html><body><img src="x"><input><p style="color:#999;background:#fff">faint</p></body></html>');
  await page.evaluate(axe);
  const { violations } = await page.evaluate(
    (tags) => window.axe.run(document, { runOnly: { type: 'tag', values: tags } }),
    STANDARDS,
  );
  const found = violations.map(({ id }) => id);
  for (const id of ['html-has-lang', 'image-alt', 'label', 'color-contrast']) assert.ok(found.includes(id), `${id} not in ${found}`);
});

/** What can be unfolded is looked at too. */
async function unfold(page) {
  await page.evaluate(() => document.querySelectorAll('details').forEach((one) => (one.open = true)));
}
