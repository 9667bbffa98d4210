// The company's identity provider: the certified npm package oidc-provider with the lab's
// clients, users and groups. Usage: node idp.mjs CONFIG.json (written by lab/company.py).
//
// Grants: client_credentials for machines; password for people, so that tests need no browser.
// Access tokens are signed JWTs (RS256) whose `groups` claim names the company's groups.

import crypto from 'node:crypto';
import fs from 'node:fs';
import https from 'node:https';
import Provider, { errors } from 'oidc-provider';

const SCOPE = 'llm';

/** Read the configuration and index what is looked up per request. */
function load(path) {
  const config = JSON.parse(fs.readFileSync(path, 'utf8'));
  return {
    ...config,
    clientsById: new Map(config.clients.map((client) => [client.id, client])),
    usersByName: new Map(config.users.map((user) => [user.name, user])),
  };
}

/** The signing key as a JWK; its id follows from the key, so it is stable over restarts. */
function signingKey(path) {
  const jwk = crypto.createPrivateKey(fs.readFileSync(path)).export({ format: 'jwk' });
  const kid = crypto.createHash('sha256').update(jwk.n).digest('base64url').slice(0, 16);
  return { ...jwk, kid, use: 'sig', alg: 'RS256' };
}

/** Compare two secrets in a time that tells nothing about them. */
function equal(left, right) {
  const digest = (text) => crypto.createHash('sha256').update(String(text)).digest();
  return crypto.timingSafeEqual(digest(left), digest(right));
}

function registration(client) {
  return {
    client_id: client.id,
    client_secret: client.secret ?? undefined,
    token_endpoint_auth_method: client.secret ? 'client_secret_basic' : 'none',
    application_type: client.secret ? 'web' : 'native',
    grant_types: [client.grant],
    redirect_uris: [],
    response_types: [],
  };
}

/** What a token for an audience looks like; each client may ask for its own audience only. */
function resourceServer(client, audience) {
  if (audience !== client.audience) {
    throw new errors.InvalidTarget(`client ${client.id} may not ask for ${audience}`);
  }
  return {
    audience,
    scope: SCOPE,
    accessTokenTTL: client.token_seconds,
    accessTokenFormat: 'jwt',
    jwt: { sign: { alg: 'RS256' } },
  };
}

function createProvider(config) {
  const provider = new Provider(config.issuer, {
    clients: config.clients.map(registration),
    jwks: { keys: [signingKey(config.signing_key)] },
    cookies: { keys: config.cookie_keys },
    scopes: ['openid', SCOPE],
    claims: { openid: ['sub'], groups: ['groups'] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_context, client) => config.clientsById.get(client.clientId).audience,
        useGrantedResource: () => true,
        getResourceServerInfo: (_context, audience, client) =>
          resourceServer(config.clientsById.get(client.clientId), audience),
      },
    },
    ttl: {
      AccessToken: (_context, token) => token.resourceServer?.accessTokenTTL ?? 600,
      ClientCredentials: (_context, token) => token.resourceServer?.accessTokenTTL ?? 600,
      Grant: 3600,
    },
    findAccount: (_context, name) => {
      const user = config.usersByName.get(name);
      return user && { accountId: name, claims: () => ({ sub: name, groups: user.groups }) };
    },
    extraTokenClaims: (_context, token) => {
      if (token.kind === 'ClientCredentials') {
        return { groups: config.clientsById.get(token.clientId).groups };
      }
      const user = config.usersByName.get(token.accountId);
      return { groups: user.groups, preferred_username: user.name };
    },
  });
  provider.registerGrantType('password', passwordGrant(provider, config), [
    'username', 'password', 'scope',
  ]);
  provider.on('server_error', (_context, error) => console.error(error));
  return provider;
}

/** The resource owner password grant, which the package leaves out for good reasons. */
function passwordGrant(provider, config) {
  return async (context) => {
    const { params, client } = context.oidc;
    const user = config.usersByName.get(params.username);
    if (!user || !equal(params.password, user.password)) {
      throw new errors.InvalidGrant('unknown user or wrong password');
    }
    const known = config.clientsById.get(client.clientId);
    const server = resourceServer(known, known.audience);
    const grant = new provider.Grant({ accountId: user.name, clientId: client.clientId });
    grant.addResourceScope(known.audience, SCOPE);
    const token = new provider.AccessToken({
      accountId: user.name,
      client,
      grantId: await grant.save(),
      gty: 'password',
      scope: SCOPE,
    });
    token.resourceServer = new provider.ResourceServer(known.audience, server);
    context.body = {
      access_token: await token.save(),
      token_type: 'Bearer',
      expires_in: token.expiration,
      scope: SCOPE,
    };
  };
}

const config = load(process.argv[2]);
const provider = createProvider(config);
const tls = {
  cert: fs.readFileSync(config.listen.certificate),
  key: fs.readFileSync(config.listen.key),
  minVersion: 'TLSv1.2',
};
https.createServer(tls, provider.callback()).listen(config.listen.port, '::', () => {
  console.log(`identity provider ${config.issuer} listens on port ${config.listen.port}`);
});
