import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { GithubLike } from '../src/github.js';
import { startIdp } from './browser.js';

const VERIFIER = 'v'.repeat(43);
const CHALLENGE = createHash('sha256').update(VERIFIER).digest('base64url');

function authorizePath(config, fields = {}) {
  const query = new URLSearchParams({
    client_id: config.github.clientId,
    redirect_uri: config.github.redirectUris[0],
    scope: 'read:user',
    state: 'state-2',
    code_challenge: CHALLENGE,
    code_challenge_method: 'S256',
    ...fields,
  });
  return `/github/login/oauth/authorize?${query}`;
}

async function codeOf(browser, config, person = 'carol') {
  const page = await browser.go(authorizePath(config));
  assert.equal(page.status, 200);
  const action = /action="([^"]+)"/.exec(page.text)[1].replaceAll('&amp;', '&');
  const after = await browser.go(action, { form: { person } });
  return new URL(after.location).searchParams;
}

const tokenForm = (config, code, fields = {}) => ({
  client_id: config.github.clientId,
  client_secret: config.github.clientSecret,
  code,
  code_verifier: VERIFIER,
  ...fields,
});

test('a login ends in the user API with a numeric id', async (t) => {
  const { config, browser } = await startIdp(t);
  const carol = browser();
  const back = await codeOf(carol, config);
  assert.equal(back.get('state'), 'state-2');
  const answer = await carol.go('/github/login/oauth/access_token', { form: tokenForm(config, back.get('code')) });
  assert.match(answer.headers['content-type'], /^application\/x-www-form-urlencoded/);
  const token = new URLSearchParams(answer.text);
  assert.equal(token.get('token_type'), 'bearer');
  const headers = { authorization: `Bearer ${token.get('access_token')}`, 'user-agent': 'test' };
  const user = JSON.parse((await carol.go('/github/user', { headers })).text);
  assert.equal(user.login, 'carol');
  assert.equal(typeof user.id, 'number');

  const withoutAgent = await carol.go('/github/user', { headers: { authorization: headers.authorization } });
  assert.equal(withoutAgent.status, 403);
  assert.equal((await carol.go('/github/user', { headers: { ...headers, authorization: 'Bearer nothing' } })).status, 401);
});

test('the token endpoint speaks JSON if asked, takes Basic, and redeems a code once', async (t) => {
  const { config, browser } = await startIdp(t);
  const dan = browser();
  const code = (await codeOf(dan, config, 'dan')).get('code');
  const basic = `Basic ${Buffer.from(`${config.github.clientId}:${config.github.clientSecret}`).toString('base64')}`;
  const ask = () =>
    dan.go('/github/login/oauth/access_token', { form: { code, code_verifier: VERIFIER }, headers: { authorization: basic, accept: 'application/json' } });
  const first = JSON.parse((await ask()).text);
  assert.ok(first.access_token);
  assert.equal(first.scope, 'read:user');
  const second = await ask();
  assert.equal(second.status, 200, 'errors come with status 200, as GitHub does');
  assert.equal(JSON.parse(second.text).error, 'bad_verification_code');
});

test('wrong secret, verifier, address: each its own error', async (t) => {
  const { config, browser } = await startIdp(t);
  for (const [fields, error] of [
    [{ client_secret: 'wrong' }, 'incorrect_client_credentials'],
    [{ code_verifier: 'w'.repeat(43) }, 'bad_verification_code'],
    [{ redirect_uri: 'http://elsewhere.example/' }, 'redirect_uri_mismatch'],
    [{ code: 'unknown' }, 'bad_verification_code'],
  ]) {
    const one = browser();
    const code = (await codeOf(one, config)).get('code');
    const answer = await one.go('/github/login/oauth/access_token', { form: tokenForm(config, code, fields) });
    assert.equal(new URLSearchParams(answer.text).get('error'), error);
  }
});

test('the authorization request is checked before anybody is asked', async (t) => {
  const { config, browser } = await startIdp(t);
  for (const fields of [{ client_id: 'other' }, { redirect_uri: 'http://elsewhere.example/' }]) {
    const answer = await browser().go(authorizePath(config, fields));
    assert.equal(answer.status, 400);
    assert.equal(answer.location, undefined);
  }
  const withoutPkce = await browser().go(authorizePath(config, { code_challenge: '' }));
  assert.equal(new URL(withoutPkce.location).searchParams.get('error'), 'invalid_request');
});

test('cancelling, a stranger and an unknown person get no code', async (t) => {
  const { config, browser } = await startIdp(t);
  assert.equal((await codeOf(browser(), config, 'cancel')).get('error'), 'access_denied');
  const one = browser();
  const action = /action="([^"]+)"/.exec((await one.go(authorizePath(config))).text)[1];
  assert.equal((await browser().go(action, { form: { person: 'carol' } })).status, 400, 'the flow is of another browser');
  assert.equal((await one.go(action, { form: { person: 'alice' } })).status, 400, 'Alice is not here');
  assert.equal((await one.go(action, { form: { person: 'carol' } })).status, 303, 'the flow still lives');
  assert.equal((await one.go(action, { form: { person: 'carol' } })).status, 400, 'and ends once');
});

test('codes live for a minute', () => {
  let now = 0;
  const client = { clientId: 'c', clientSecret: 's', redirectUris: ['http://didp.example/cb'] };
  const github = new GithubLike(client, () => now);
  const query = new URLSearchParams({ client_id: 'c', code_challenge: CHALLENGE, code_challenge_method: 'S256' });
  const tokenAfter = (milliseconds) => {
    const back = new URL(github.decide(github.authorize(query).flow, 'carol'));
    now += milliseconds;
    const form = new URLSearchParams({ client_id: 'c', client_secret: 's', code: back.searchParams.get('code'), code_verifier: VERIFIER });
    return new URLSearchParams(github.token(form).body);
  };
  assert.ok(tokenAfter(59_999).get('access_token'));
  assert.equal(tokenAfter(60_001).get('error'), 'bad_verification_code');
});
