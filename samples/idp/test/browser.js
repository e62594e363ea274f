/** A started IdP on a free port, and a browser of the simplest kind for it: keeps cookies, follows no redirect by itself. */
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromEnvironment } from '../src/config.js';
import { createIdp } from '../src/server.js';

/** Writes a setup volume with fresh secrets; `files` overrides or, with null, leaves out. */
export function setupVolume(t, files = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'idp-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const secret = () => `${randomBytes(32).toString('base64url')}\n`;
  const all = {
    'signing-key.pem': privateKey.export({ type: 'pkcs8', format: 'pem' }),
    'cookie.key': secret(),
    'client-oidc.secret': secret(),
    'client-github.secret': secret(),
    ...files,
  };
  for (const [name, text] of Object.entries(all)) if (text !== null) writeFileSync(join(directory, name), text);
  return directory;
}

/** @returns the configuration and `browser()`, which makes a client with cookies of its own */
export async function startIdp(t, files) {
  const config = fromEnvironment({ IDP_DIR: setupVolume(t, files) });
  const server = createIdp(config).listen(0, '127.0.0.1');
  t.after(() => server.close() && server.closeAllConnections());
  await once(server, 'listening');
  return { config, browser: () => new Browser(server.address().port, config.issuer) };
}

class Browser {
  #cookies = new Map();
  constructor(port, issuer) {
    this.port = port;
    this.issuer = issuer;
  }

  /** One request; `form` makes it a POST. `address` may be absolute or a path. */
  async go(address, { form, headers = {} } = {}) {
    const url = new URL(address, this.issuer);
    const body = form && new URLSearchParams(form).toString();
    const sent = {
      host: new URL(this.issuer).host,
      ...(this.#cookies.size > 0 && { cookie: [...this.#cookies].map((pair) => pair.join('=')).join('; ') }),
      ...(body !== undefined && { 'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(body) }),
      ...headers,
    };
    const outgoing = request({ host: '127.0.0.1', port: this.port, path: url.pathname + url.search, method: form ? 'POST' : 'GET', headers: sent });
    outgoing.end(body);
    const [response] = await once(outgoing, 'response');
    let text = '';
    for await (const chunk of response.setEncoding('utf8')) text += chunk;
    for (const line of response.headers['set-cookie'] ?? []) {
      const [pair] = line.split(';');
      const at = pair.indexOf('=');
      if (/expires=Thu, 01 Jan 1970|max-age=0/i.test(line)) this.#cookies.delete(pair.slice(0, at));
      else this.#cookies.set(pair.slice(0, at), pair.slice(at + 1));
    }
    return { status: response.statusCode, headers: response.headers, location: response.headers.location, text };
  }

  /** Follows redirects until one leaves the IdP, or a page comes. */
  async follow(address, options) {
    let answer = await this.go(address, options);
    while (answer.location && new URL(answer.location, this.issuer).origin === new URL(this.issuer).origin) {
      answer = await this.go(answer.location);
    }
    return answer;
  }
}
