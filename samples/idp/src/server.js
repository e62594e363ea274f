/**
 * The route table: health, pictures and style, the login pages of both providers, the GitHub-style endpoints below
 * `/github`, and everything else to oidc-provider.
 */
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { GithubLike } from './github.js';
import { loginResult, openidProvider, withoutSession } from './openid.js';
import { loginPage, messagePage, picture } from './pages.js';
import { githubPeople, openidPeople } from './people.js';

const STYLE = readFileSync(new URL('./style.css', import.meta.url));
const LONGEST_FORM = 16 * 1024;
const FLOW_COOKIE = 'idp_github_flow';

/** An unstarted HTTP server; the caller binds it and closes it. */
export function createIdp(config) {
  const openid = openidProvider(config);
  const github = new GithubLike(config.github);
  const openidCallback = openid.callback();
  const securePages = config.issuer.startsWith('https:') ? '; Secure' : '';
  const formTargets = [...new Set([...config.openid.redirectUris, ...config.github.redirectUris].map((uri) => new URL(uri).origin))];
  const htmlHeaders = {
    'content-type': 'text/html; charset=utf-8',
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'same-origin',
    // Chromium applies form-action to the redirects that follow the form, hence the client's origins.
    'content-security-policy': `default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' ${formTargets.join(' ')}; frame-ancestors 'none'; base-uri 'none'`,
  };
  const html = (response, status, body, headers = {}) => response.writeHead(status, { ...htmlHeaders, ...headers }).end(body);
  const plain = (response, answer) => response.writeHead(answer.status, { 'cache-control': 'no-store', ...answer.headers }).end(answer.body);
  const ended = (response) => html(response, 400, messagePage('This login has ended', 'Please go back to where you came from and begin again.'));

  async function openidLogin(request, response, uid) {
    const details = await openid.interactionDetails(request, response).catch(() => null);
    if (!details || details.uid !== uid || details.prompt.name !== 'login') return ended(response);
    if (request.method === 'GET') {
      const options = { theme: 'openid', provider: 'Demo OpenID provider', client: 'OAuthing', action: `/login/${uid}`, people: openidPeople.values() };
      return html(response, 200, loginPage(options));
    }
    const result = loginResult((await readForm(request)).get('person'));
    if (!result) return ended(response);
    return openid.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  }

  async function githubLogin(request, response, url) {
    const cookie = flowCookie(request.headers.cookie);
    if (request.method === 'POST') {
      const form = await readForm(request);
      const flow = url.searchParams.get('flow') ?? '';
      // The cookie ties the flow to the browser that began it.
      const address = cookie.includes(flow) ? github.decide(flow, form.get('person')) : undefined;
      if (!address) return ended(response);
      return response.writeHead(303, { location: address, 'cache-control': 'no-store', 'referrer-policy': 'no-referrer', 'set-cookie': setFlow('', 0) }).end();
    }
    const verdict = github.authorize(url.searchParams);
    if (verdict.refused) return html(response, 400, messagePage('This login cannot begin', `The request was refused: ${verdict.refused}.`));
    if (verdict.redirect) return response.writeHead(303, { location: verdict.redirect, 'cache-control': 'no-store' }).end();
    const options = {
      theme: 'github',
      provider: 'Demo code host',
      client: 'OAuthing',
      action: `/github/login?flow=${verdict.flow}`,
      people: githubPeople.values(),
    };
    return html(response, 200, loginPage(options), { 'set-cookie': setFlow(verdict.flow, 600) });
  }
  const setFlow = (value, seconds) => `${FLOW_COOKIE}=${value}; Path=/github; Max-Age=${seconds}; HttpOnly; SameSite=Lax${securePages}`;

  async function route(request, response) {
    const url = new URL(request.url, config.issuer);
    const { authorization, accept, 'user-agent': userAgent } = request.headers;
    const at = `${request.method} ${url.pathname}`;
    const login = /^(?:GET|POST) \/login\/([A-Za-z0-9_-]{1,64})$/.exec(at);
    const portrait = /^GET \/picture\/([a-z]{1,16})\.svg$/.exec(at);
    if (at === 'GET /healthz') return response.writeHead(200, { 'content-type': 'text/plain' }).end('ok\n');
    if (at === 'GET /style.css') return response.writeHead(200, { 'content-type': 'text/css', 'cache-control': 'max-age=300' }).end(STYLE);
    if (portrait && picture(portrait[1])) return response.writeHead(200, { 'content-type': 'image/svg+xml' }).end(picture(portrait[1]));
    if (login) return openidLogin(request, response, login[1]);
    if (at === 'GET /github/login/oauth/authorize' || at === 'POST /github/login') return githubLogin(request, response, url);
    if (at === 'POST /github/login/oauth/access_token') return plain(response, github.token(await readForm(request), { authorization, accept }));
    if (at === 'GET /github/user') return plain(response, github.user({ authorization, userAgent }));
    if (url.pathname === '/github' || url.pathname.startsWith('/github/') || portrait) {
      return html(response, 404, messagePage('Not found', 'There is no such page here.'));
    }
    if (/^\/auth(\/|$)/.test(url.pathname)) request.headers.cookie = withoutSession(request.headers.cookie);
    return openidCallback(request, response);
  }

  const server = createServer((request, response) => {
    route(request, response).catch((error) => {
      if (!response.headersSent) response.writeHead(error.status ?? 500, { 'content-type': 'text/plain' });
      response.end(`${error.status ? error.message : 'internal error'}\n`);
      if (!error.status) console.error(`${request.method} ${request.url.split('?')[0]}: ${error.name}: ${error.message}`);
    });
  });
  server.headersTimeout = 10_000;
  server.requestTimeout = 20_000;
  return server;
}

/** The body as form fields. Too long, or of another type: an error with `status`. */
async function readForm(request) {
  const refuse = (status, message) => Object.assign(new Error(message), { status });
  if (!/^application\/x-www-form-urlencoded\b/i.test(request.headers['content-type'] ?? '')) throw refuse(415, 'a form is expected');
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) {
    text += chunk;
    if (text.length > LONGEST_FORM) throw refuse(413, 'the form is too long');
  }
  return new URLSearchParams(text);
}

function flowCookie(header) {
  return (header ?? '')
    .split(';')
    .map((pair) => pair.trim().split('='))
    .filter(([name, value]) => name === FLOW_COOKIE && value)
    .map(([, value]) => value);
}
