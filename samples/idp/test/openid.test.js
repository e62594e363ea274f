import assert from 'node:assert/strict';
import { createHash, createPublicKey, generateKeyPairSync, randomBytes, verify } from 'node:crypto';
import { test } from 'node:test';
import { startIdp } from './browser.js';

const challengeOf = (verifier) => createHash('sha256').update(verifier).digest('base64url');

function authorizePath(config, fields = {}) {
  const query = new URLSearchParams({
    client_id: config.openid.clientId,
    redirect_uri: config.openid.redirectUris[0],
    response_type: 'code',
    scope: 'openid profile email',
    state: 'state-1',
    nonce: 'nonce-1',
    ...fields,
  });
  return `/auth?${query}`;
}

const redeem = (browser, config, code, verifier, secret = config.openid.clientSecret) =>
  browser.go('/token', {
    form: { grant_type: 'authorization_code', code, code_verifier: verifier, redirect_uri: config.openid.redirectUris[0] },
    headers: { authorization: `Basic ${Buffer.from(`${config.openid.clientId}:${secret}`).toString('base64')}` },
  });

async function loginAs(browser, config, person, verifier) {
  const page = await browser.follow(authorizePath(config, { code_challenge: challengeOf(verifier), code_challenge_method: 'S256' }));
  assert.equal(page.status, 200);
  const action = /action="([^"]+)"/.exec(page.text)[1];
  return { page, after: await browser.follow(action, { form: { person } }) };
}

test('discovery and keys are those of the issuer', async (t) => {
  const { config, browser } = await startIdp(t);
  const discovery = JSON.parse((await browser().go('/.well-known/openid-configuration')).text);
  assert.equal(discovery.issuer, config.issuer);
  assert.deepEqual(discovery.code_challenge_methods_supported, ['S256']);
  assert.ok(discovery.id_token_signing_alg_values_supported.includes('ES256'));
  assert.equal(discovery.authorization_response_iss_parameter_supported, true);
  const jwks = JSON.parse((await browser().go(discovery.jwks_uri)).text);
  assert.equal(jwks.keys[0].kid, config.jwk.kid);
  assert.equal(jwks.keys[0].d, undefined);
});

test('a login gives a signed ID token with a profile', async (t) => {
  const { config, browser } = await startIdp(t);
  const alice = browser();
  const verifier = randomBytes(32).toString('base64url');
  const { page, after } = await loginAs(alice, config, 'alice', verifier);
  assert.match(page.headers['content-security-policy'], /frame-ancestors 'none'/);
  assert.match(page.headers['content-security-policy'], /form-action 'self' http:\/\/didp\.localhost:8080;/);
  const back = new URL(after.location);
  assert.equal(back.origin + back.pathname, config.openid.redirectUris[0]);
  assert.equal(back.searchParams.get('state'), 'state-1');
  assert.equal(back.searchParams.get('iss'), config.issuer);

  const answer = await redeem(alice, config, back.searchParams.get('code'), verifier);
  assert.equal(answer.status, 200, answer.text);
  const tokens = JSON.parse(answer.text);
  const [head, body, signature] = tokens.id_token.split('.');
  const key = createPublicKey({ key: config.jwk, format: 'jwk' });
  const signed = Buffer.from(`${head}.${body}`);
  assert.ok(verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url')));
  const claims = JSON.parse(Buffer.from(body, 'base64url'));
  assert.equal(claims.iss, config.issuer);
  assert.equal(claims.aud, config.openid.clientId);
  assert.equal(claims.nonce, 'nonce-1');
  assert.equal(claims.email, 'alice@example.org');

  const profile = JSON.parse((await alice.go('/me', { headers: { authorization: `Bearer ${tokens.access_token}` } })).text);
  assert.equal(profile.sub, claims.sub);
  assert.equal(profile.name, 'Alice Arden');
  const again = await redeem(alice, config, back.searchParams.get('code'), verifier);
  assert.equal(JSON.parse(again.text).error, 'invalid_grant', 'a code redeems once');
});

test('the same browser can log in as another person next time', async (t) => {
  const { config, browser } = await startIdp(t);
  const one = browser();
  const subjects = [];
  for (const person of ['alice', 'bob', 'alice']) {
    const verifier = randomBytes(32).toString('base64url');
    const { after } = await loginAs(one, config, person, verifier);
    const answer = await redeem(one, config, new URL(after.location).searchParams.get('code'), verifier);
    subjects.push(JSON.parse(Buffer.from(JSON.parse(answer.text).id_token.split('.')[1], 'base64url')).sub);
  }
  assert.equal(subjects[0], subjects[2]);
  assert.notEqual(subjects[0], subjects[1]);
});

test('PKCE is required, and a wrong verifier or secret is refused', async (t) => {
  const { config, browser } = await startIdp(t);
  const without = await browser().follow(authorizePath(config));
  assert.equal(new URL(without.location).searchParams.get('error'), 'invalid_request');
  const plain = await browser().follow(authorizePath(config, { code_challenge: 'a'.repeat(43), code_challenge_method: 'plain' }));
  assert.equal(new URL(plain.location).searchParams.get('error'), 'invalid_request');

  for (const [sentVerifier, secret, error] of [
    ['b'.repeat(43), undefined, 'invalid_grant'],
    ['a'.repeat(43), 'x'.repeat(43), 'invalid_client'],
  ]) {
    const bob = browser();
    const { after } = await loginAs(bob, config, 'bob', 'a'.repeat(43));
    const answer = await redeem(bob, config, new URL(after.location).searchParams.get('code'), sentVerifier, secret);
    assert.equal(JSON.parse(answer.text).error, error);
  }
});

test('cancelling tells the client, an unknown address gets no redirect', async (t) => {
  const { config, browser } = await startIdp(t);
  const { after } = await loginAs(browser(), config, 'cancel', 'a'.repeat(43));
  assert.equal(new URL(after.location).searchParams.get('error'), 'access_denied');
  const strange = await browser().go(authorizePath(config, { redirect_uri: 'http://elsewhere.example/' }));
  assert.equal(strange.status, 400);
  assert.equal(strange.location, undefined);
});

test('a login page belongs to the browser that began it', async (t) => {
  const { config, browser } = await startIdp(t);
  const page = await browser().follow(authorizePath(config, { code_challenge: 'a'.repeat(43), code_challenge_method: 'S256' }));
  const action = /action="([^"]+)"/.exec(page.text)[1];
  const stranger = await browser().go(action, { form: { person: 'alice' } });
  assert.equal(stranger.status, 400);
  assert.equal(stranger.location, undefined);
});

test('an RSA key signs with RS256', async (t) => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' });
  const { config, browser } = await startIdp(t, { 'signing-key.pem': rsa });
  assert.equal(config.algorithm, 'RS256');
  const verifier = 'a'.repeat(43);
  const bob = browser();
  const { after } = await loginAs(bob, config, 'bob', verifier);
  const answer = await redeem(bob, config, new URL(after.location).searchParams.get('code'), verifier);
  assert.equal(JSON.parse(Buffer.from(JSON.parse(answer.text).id_token.split('.')[0], 'base64url')).alg, 'RS256');
});
