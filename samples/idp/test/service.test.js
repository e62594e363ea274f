import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ConfigError, fromEnvironment } from '../src/config.js';
import { setupVolume, startIdp } from './browser.js';

const MAIN = fileURLToPath(new URL('../src/main.js', import.meta.url));
const HEALTHCHECK = fileURLToPath(new URL('../src/healthcheck.js', import.meta.url));

test('what is wrong with the settings is named', (t) => {
  const refuses = (env, pattern) => assert.throws(() => fromEnvironment(env), (error) => error instanceof ConfigError && pattern.test(error.message));
  refuses({}, /IDP_DIR is not set/);
  refuses({ IDP_DIR: setupVolume(t, { 'client-github.secret': null }) }, /client-github\.secret: ENOENT/);
  refuses({ IDP_DIR: setupVolume(t, { 'cookie.key': 'short\n' }) }, /cookie\.key holds fewer than 32/);
  refuses({ IDP_DIR: setupVolume(t, { 'signing-key.pem': 'nonsense' }) }, /signing-key\.pem is not a private key/);
  const IDP_DIR = setupVolume(t);
  refuses({ IDP_DIR, IDP_LISTEN: 'nowhere' }, /IDP_LISTEN/);
  refuses({ IDP_DIR, IDP_ISSUER: 'http://idp.localhost:8070/path' }, /IDP_ISSUER/);
  refuses({ IDP_DIR, IDP_OIDC_REDIRECT_URIS: 'not an address' }, /IDP_OIDC_REDIRECT_URIS/);
  assert.equal(fromEnvironment({ IDP_DIR, IDP_HOST: '192.0.2.7' }).issuer, 'http://192.0.2.7:8070');
});

test('the key id is the same after each start', (t) => {
  const IDP_DIR = setupVolume(t);
  assert.equal(fromEnvironment({ IDP_DIR }).jwk.kid, fromEnvironment({ IDP_DIR }).jwk.kid);
});

test('the process starts, is healthy, and stops on SIGTERM', { timeout: 30_000 }, async (t) => {
  const env = { PATH: process.env.PATH, IDP_DIR: setupVolume(t), IDP_LISTEN: '127.0.0.1:0' };
  const child = spawn(process.execPath, [MAIN], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  let port;
  for await (const line of child.stdout.setEncoding('utf8')) {
    port = /listening on 127\.0\.0\.1:(\d+)/.exec(line)?.[1];
    if (port) break;
  }
  const check = async (listen) => (await once(spawn(process.execPath, [HEALTHCHECK], { env: { ...env, IDP_LISTEN: listen } }), 'exit'))[0];
  assert.equal(await check(`127.0.0.1:${port}`), 0);
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
  assert.equal(await check(`127.0.0.1:${port}`), 1);
});

test('a start with a missing secret fails with its name', async (t) => {
  const env = { PATH: process.env.PATH, IDP_DIR: setupVolume(t, { 'client-oidc.secret': null }) };
  const child = spawn(process.execPath, [MAIN], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (said += text));
  assert.equal((await once(child, 'exit'))[0], 1);
  assert.match(said, /client-oidc\.secret/);
});

test('bad requests get an answer and nothing else', async (t) => {
  const { browser } = await startIdp(t);
  const one = browser();
  assert.equal((await one.go('/healthz')).text, 'ok\n');
  assert.equal((await one.go('/github/nothing')).status, 404);
  assert.equal((await one.go('/nothing')).status, 404);
  assert.equal((await one.go('/login/unknown-uid')).status, 400);
  assert.equal((await one.go('/picture/mallory.svg')).status, 404);
  const long = await one.go('/github/login/oauth/access_token', { form: { code: 'x'.repeat(20_000) } });
  assert.equal(long.status, 413);
  const json = await one.go('/github/login/oauth/access_token', { form: {}, headers: { 'content-type': 'application/json' } });
  assert.equal(json.status, 415);
  assert.match((await one.go('/style.css')).headers['content-type'], /text\/css/);
});
