/**
 * Settings from the environment and secrets from the setup volume. Everything that can be wrong is found here, at start,
 * and named; nothing else reads `process.env` or the volume.
 */
import { createPrivateKey, createPublicKey, createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A setting or file that keeps the service from starting; the message is meant for the operator. */
export class ConfigError extends Error {}

/**
 * @param {Record<string, string | undefined>} env
 * @returns {{host: string, port: number, issuer: string, jwk: object, algorithm: 'ES256' | 'RS256', cookieKey: string,
 *   openid: {clientId: string, clientSecret: string, redirectUris: string[]},
 *   github: {clientId: string, clientSecret: string, redirectUris: string[]}}}
 */
export function fromEnvironment(env) {
  const directory = env.IDP_DIR;
  if (!directory) throw new ConfigError('IDP_DIR is not set: the directory with signing-key.pem and the client secrets');
  const { host, port } = listenAddress(env.IDP_LISTEN || '127.0.0.1:8070');
  const issuer = origin('IDP_ISSUER', env.IDP_ISSUER || `http://${env.IDP_HOST || 'idp.localhost'}:8070`);
  const didp = origin('DIDP_URL', env.DIDP_URL || 'http://didp.localhost:8080');
  const { jwk, algorithm } = signingKey(join(directory, 'signing-key.pem'));
  return {
    host,
    port,
    issuer,
    jwk,
    algorithm,
    cookieKey: secret(join(directory, 'cookie.key')),
    openid: {
      clientId: 'didp-oidc',
      clientSecret: secret(join(directory, 'client-oidc.secret')),
      redirectUris: addresses('IDP_OIDC_REDIRECT_URIS', env.IDP_OIDC_REDIRECT_URIS || `${didp}/login/demo/callback`),
    },
    github: {
      clientId: 'didp-github',
      clientSecret: secret(join(directory, 'client-github.secret')),
      redirectUris: addresses('IDP_GITHUB_REDIRECT_URIS', env.IDP_GITHUB_REDIRECT_URIS || `${didp}/login/github/callback`),
    },
  };
}

function listenAddress(text) {
  const colon = text.lastIndexOf(':');
  const port = Number(text.slice(colon + 1));
  if (colon < 1 || !Number.isInteger(port) || port < 0 || port > 65535) {
    throw new ConfigError(`IDP_LISTEN is not ADDRESS:PORT: ${text}`);
  }
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port };
}

function origin(name, text) {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !/^https?:$/.test(url.protocol) || url.origin !== text.replace(/\/$/, '')) {
    throw new ConfigError(`${name} is not an http or https origin: ${text}`);
  }
  return url.origin;
}

function addresses(name, text) {
  const list = text.split(/\s+/).filter(Boolean);
  const wrong = list.find((one) => !URL.canParse(one));
  if (list.length === 0 || wrong) throw new ConfigError(`${name} is not a list of addresses: ${text}`);
  return list;
}

function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError(`cannot read ${path}: ${error.code}`);
  }
}

function secret(path) {
  const text = read(path).trim();
  if (text.length < 32) throw new ConfigError(`${path} holds fewer than 32 characters`);
  return text;
}

function signingKey(path) {
  let key;
  try {
    key = createPrivateKey(read(path));
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`${path} is not a private key in PEM`);
  }
  const algorithm = { ec: 'ES256', rsa: 'RS256' }[key.asymmetricKeyType];
  if (!algorithm) throw new ConfigError(`${path} is neither a P-256 nor an RSA key`);
  // The key id follows from the public key, so it is the same after every start.
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const kid = createHash('sha256').update(spki).digest('base64url').slice(0, 16);
  return { jwk: { ...key.export({ format: 'jwk' }), kid, use: 'sig', alg: algorithm }, algorithm };
}
