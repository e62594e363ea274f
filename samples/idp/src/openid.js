/**
 * The OpenID provider: npm `oidc-provider` with one client, PKCE for everybody, and consent given for that client without
 * asking. Every authorization request begins without a session (`withoutSession`), so that each login asks who it is and the
 * demo can change persons. Pages are in pages.js, routes in server.js.
 */
import Provider from 'oidc-provider';
import { openidPeople, personByKey } from './people.js';

const SESSION_COOKIE = 'idp_session';

/** @param {ReturnType<typeof import('./config.js').fromEnvironment>} config */
export function openidProvider(config) {
  const provider = new Provider(config.issuer, {
    clients: [
      {
        client_id: config.openid.clientId,
        client_secret: config.openid.clientSecret,
        redirect_uris: config.openid.redirectUris,
        grant_types: ['authorization_code'],
        response_types: ['code'],
        token_endpoint_auth_method: 'client_secret_basic',
        id_token_signed_response_alg: config.algorithm,
      },
    ],
    jwks: { keys: [config.jwk] },
    cookies: {
      // Cookies do not tell ports apart, and all services of the demo may share a host name.
      names: { session: SESSION_COOKIE, interaction: 'idp_interaction', resume: 'idp_resume' },
      keys: [config.cookieKey],
    },
    claims: {
      openid: ['sub'],
      profile: ['name', 'given_name', 'family_name', 'picture'],
      email: ['email', 'email_verified'],
    },
    // Profile claims in the ID token too, as Google does.
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    responseTypes: ['code'],
    features: { devInteractions: { enabled: false }, rpInitiatedLogout: { enabled: false } },
    interactions: { url: (_ctx, interaction) => `/login/${interaction.uid}` },
    ttl: { AccessToken: 600, AuthorizationCode: 60, IdToken: 600, Interaction: 600, Session: 3600, Grant: 3600 },
    findAccount: (_ctx, id) => account(config.issuer, id),
    loadExistingGrant,
    renderError(ctx, out) {
      ctx.type = 'text/plain';
      ctx.body = `${out.error}: ${out.error_description ?? 'the request cannot be served'}\n`;
    },
  });
  return provider;
}

function account(issuer, id) {
  const person = openidPeople.get(id);
  if (!person) return undefined;
  return {
    accountId: id,
    claims: () => ({
      sub: id,
      name: person.name,
      given_name: person.given_name,
      family_name: person.family_name,
      email: person.email,
      email_verified: true,
      picture: `${issuer}/picture/${person.key}.svg`,
    }),
  };
}

/** A Cookie header without the session, so that a request with it begins a login of its own. */
export function withoutSession(header) {
  return (header ?? '')
    .split(';')
    .filter((pair) => !pair.trim().startsWith(SESSION_COOKIE))
    .join(';');
}

/** Consent is given for what the one demo client asks. */
async function loadExistingGrant(ctx) {
  const { client, session, params, provider } = ctx.oidc;
  const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
  grant.addOIDCScope(params.scope);
  await grant.save();
  return grant;
}

/** The result that ends a login page: the person chosen, or a refusal. Returns undefined for an unknown person. */
export function loginResult(choice) {
  if (choice === 'cancel') return { error: 'access_denied', error_description: 'the person cancelled the login' };
  const person = personByKey(openidPeople, choice);
  return person ? { login: { accountId: person.id, remember: false } } : undefined;
}
