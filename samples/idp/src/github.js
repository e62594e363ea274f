/**
 * A plain OAuth2 server that behaves as GitHub's does: form answers unless JSON is asked for, errors with status 200, no
 * ID token, a user API with a numeric id. Pure of sockets: it keeps flows, codes and tokens in memory and answers with
 * `{status, headers, body}`; server.js does the I/O. Lifetimes come from the `now` function (milliseconds).
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { githubPeople, personByKey } from './people.js';

const FLOW_MS = 10 * 60_000;
const CODE_MS = 60_000;
const TOKEN_MS = 10 * 60_000;
/** More than any demo needs; beyond it the oldest entry goes, so that memory stays bounded. */
const MOST_ENTRIES = 1000;

const draw = () => randomBytes(32).toString('base64url');
const sha256 = (text) => createHash('sha256').update(text).digest();
const equal = (a, b) => timingSafeEqual(sha256(a), sha256(b));

/** Entries that end: `put` answers the new key, `take` removes, `get` leaves. */
class Expiring {
  #entries = new Map();
  constructor(milliseconds, now) {
    this.milliseconds = milliseconds;
    this.now = now;
  }
  put(value) {
    const key = draw();
    if (this.#entries.size >= MOST_ENTRIES) this.#entries.delete(this.#entries.keys().next().value);
    this.#entries.set(key, { value, ends: this.now() + this.milliseconds });
    return key;
  }
  get(key) {
    const entry = this.#entries.get(key);
    return entry && entry.ends > this.now() ? entry.value : undefined;
  }
  take(key) {
    const value = this.get(key);
    this.#entries.delete(key);
    return value;
  }
}

export class GithubLike {
  /** @param {{clientId: string, clientSecret: string, redirectUris: string[]}} client */
  constructor(client, now = Date.now) {
    this.client = client;
    this.flows = new Expiring(FLOW_MS, now);
    this.codes = new Expiring(CODE_MS, now);
    this.tokens = new Expiring(TOKEN_MS, now);
  }

  /**
   * Checks an authorization request (RFC 6749 §4.1.1, RFC 7636).
   * @param {URLSearchParams} query
   * @returns {{flow: string} | {redirect: string} | {refused: string}} `flow` names the login that now waits for a person;
   *   `refused` must not redirect, because the client or its address is not known.
   */
  authorize(query) {
    const one = (name) => (query.getAll(name).length === 1 ? query.get(name) : null);
    if (one('client_id') !== this.client.clientId) return { refused: 'unknown client_id' };
    const redirectUri = one('redirect_uri') ?? this.client.redirectUris[0];
    if (!this.client.redirectUris.includes(redirectUri)) return { refused: 'the redirect_uri is not registered' };
    const state = one('state');
    if (query.has('response_type') && one('response_type') !== 'code') {
      return { redirect: back(redirectUri, { error: 'unsupported_response_type', state }) };
    }
    const challenge = one('code_challenge');
    if (!challenge || !/^[A-Za-z0-9_-]{43}$/.test(challenge) || one('code_challenge_method') !== 'S256') {
      return { redirect: back(redirectUri, { error: 'invalid_request', error_description: 'PKCE with S256 is required', state }) };
    }
    return { flow: this.flows.put({ redirectUri, state, challenge, scope: one('scope') ?? '' }) };
  }

  /** Ends a login: the address to send the browser to, or undefined for an ended flow or an unknown person. */
  decide(flowKey, choice) {
    const person = personByKey(githubPeople, choice);
    if (!person && choice !== 'cancel') return undefined;
    const flow = this.flows.take(flowKey);
    if (!flow) return undefined;
    if (!person) return back(flow.redirectUri, { error: 'access_denied', state: flow.state });
    const code = this.codes.put({ ...flow, personId: person.id });
    return back(flow.redirectUri, { code, state: flow.state });
  }

  /** The token endpoint. Errors come with status 200, as GitHub's do. */
  token(form, { authorization, accept } = {}) {
    const answer = (fields) =>
      /\bjson\b/.test(accept ?? '')
        ? { status: 200, headers: { 'content-type': 'application/json; charset=utf-8' }, body: JSON.stringify(fields) }
        : { status: 200, headers: { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' }, body: new URLSearchParams(fields).toString() };
    const [id, secret] = credentials(form, authorization);
    if (id !== this.client.clientId || !equal(secret, this.client.clientSecret)) {
      return answer({ error: 'incorrect_client_credentials', error_description: 'The client_id and/or client_secret passed are incorrect.' });
    }
    const code = this.codes.take(form.get('code') ?? '');
    const bad = { error: 'bad_verification_code', error_description: 'The code passed is incorrect or expired.' };
    if (!code) return answer(bad);
    if (form.has('redirect_uri') && form.get('redirect_uri') !== code.redirectUri) {
      return answer({ error: 'redirect_uri_mismatch', error_description: 'The redirect_uri is not the one of the authorization request.' });
    }
    if (!equal(sha256(form.get('code_verifier') ?? '').toString('base64url'), code.challenge)) return answer(bad);
    return answer({ access_token: this.tokens.put(code.personId), scope: code.scope, token_type: 'bearer' });
  }

  /** `GET /user`; like GitHub it wants a User-Agent. */
  user({ authorization, userAgent } = {}) {
    const json = (status, fields) => ({ status, headers: { 'content-type': 'application/json; charset=utf-8' }, body: JSON.stringify(fields) });
    if (!userAgent) return json(403, { message: 'Request forbidden by administrative rules: a User-Agent header is needed.' });
    const token = /^(?:Bearer|token) (.+)$/i.exec(authorization ?? '')?.[1];
    const person = token && githubPeople.get(this.tokens.get(token));
    if (!person) return json(401, { message: 'Bad credentials' });
    return json(200, { login: person.login, id: person.id, type: 'User', name: person.name, email: person.email });
  }
}

function back(redirectUri, fields) {
  const url = new URL(redirectUri);
  for (const [name, value] of Object.entries(fields)) if (value !== null && value !== undefined) url.searchParams.set(name, value);
  return url.href;
}

function credentials(form, authorization) {
  const basic = /^Basic ([A-Za-z0-9+/=]+)$/i.exec(authorization ?? '');
  if (!basic) return [form.get('client_id'), form.get('client_secret') ?? ''];
  const text = Buffer.from(basic[1], 'base64').toString();
  const colon = text.indexOf(':');
  // RFC 6749 §2.3.1: both halves are form-encoded.
  const decoded = new URLSearchParams(`id=${text.slice(0, colon)}&secret=${text.slice(colon + 1)}`);
  return colon < 0 ? [null, ''] : [decoded.get('id'), decoded.get('secret')];
}
