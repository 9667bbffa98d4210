// The company's identity provider: the certified npm package oidc-provider with the lab's
// clients, users and groups. Usage: node idp.mjs CONFIG.json (written by lab/company.py).
//
// Grants: client_credentials for machines; the code flow with PKCE for people in a browser, with
// logout; and password for people, so that most tests need no browser. A machine's tokens may be bound
// to its client certificate. Access tokens are signed JWTs (RS256) whose `groups` claim names the company's groups.

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
    redirect_uris: client.redirect_uris ?? [],
    response_types: client.grant === 'authorization_code' ? ['code'] : [],
    post_logout_redirect_uris: client.post_logout_redirect_uris ?? [],
    backchannel_logout_uri: client.backchannel_logout_uri ?? undefined,
    backchannel_logout_session_required: Boolean(client.backchannel_logout_uri),
    tls_client_certificate_bound_access_tokens: Boolean(client.bound),
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
    claims: { openid: ['sub', 'name'], groups: ['groups'] },
    conformIdTokenClaims: false,
    // Its own dispatcher refuses documentation addresses, which are the lab's.
    fetch: (url, { dispatcher: _refuses, ...options }) => globalThis.fetch(url, options),
    interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: { enabled: true, logoutSource: logoutPage },
      mTLS: { enabled: true, certificateBoundAccessTokens: true, getCertificate },
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
      IdToken: 600,
      Interaction: 600,
      Session: 3600,
    },
    findAccount: (_context, name) => {
      const user = config.usersByName.get(name);
      return user && { accountId: name, claims: () => ({ sub: name, name: user.full_name, groups: user.groups }) };
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
  provider.use(loginPage(provider, config));
  provider.on('server_error', (_context, error) => console.error(error));
  provider.on('backchannel.error', (_context, error) => console.error(error));
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

/** The client's certificate, if the company's CA has signed it. */
function getCertificate(context) {
  const { socket } = context.req;
  const shown = socket.authorized && socket.getPeerCertificate();
  return shown && shown.raw ? new crypto.X509Certificate(shown.raw) : undefined;
}

function page(title, body) {
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${title}</title><h1>${title}</h1>${body}`;
}

/** Ask whether the whole session at the company ends. */
function logoutPage(context, form) {
  context.type = 'html';
  context.body = page('Sign out of the company', `${form}
    <button form="op.logoutForm" name="logout" value="yes">Sign out</button>`);
}

/** Sign people in by name and password; the company's own clients need nobody's consent. */
function loginPage(provider, config) {
  const show = (context, uid, problem) => {
    context.type = 'html';
    context.body = page('Sign in to the company', `<p>${problem}</p>
      <form method="post" action="/interaction/${uid}"><input name="login" autofocus autocomplete="username">
      <input name="password" type="password"><button>Sign in</button></form>`);
  };
  return async (context, next) => {
    if (!context.path.startsWith('/interaction/')) return next();
    const { uid, prompt, params, session, grantId } = await provider.interactionDetails(context.req, context.res);
    const finish = (result) => provider.interactionFinished(
      context.req, context.res, result, { mergeWithLastSubmission: true },
    );
    if (prompt.name === 'consent') {
      const grant = (grantId && await provider.Grant.find(grantId))
        ?? new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
      const { missingOIDCScope, missingOIDCClaims, missingResourceScopes } = prompt.details;
      if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(' '));
      if (missingOIDCClaims) grant.addOIDCClaims(missingOIDCClaims);
      for (const [resource, scopes] of Object.entries(missingResourceScopes ?? {})) {
        grant.addResourceScope(resource, scopes.join(' '));
      }
      return finish({ consent: { grantId: await grant.save() } });
    }
    if (context.method !== 'POST') return show(context, uid, '');
    const form = new URLSearchParams(await body(context.req));
    const user = config.usersByName.get(form.get('login'));
    if (!user || !equal(form.get('password'), user.password)) {
      context.status = 401;
      return show(context, uid, 'Wrong name or password.');
    }
    return finish({ login: { accountId: user.name } });
  };
}

async function body(request) {
  let text = '';
  for await (const chunk of request) {
    text += chunk;
    if (text.length > 4096) throw new errors.InvalidRequest('form is too large');
  }
  return text;
}

const config = load(process.argv[2]);
const provider = createProvider(config);
const tls = {
  cert: fs.readFileSync(config.listen.certificate),
  key: fs.readFileSync(config.listen.key),
  minVersion: 'TLSv1.2',
  // Machines may show a certificate; nobody must.
  ca: fs.readFileSync(config.listen.client_ca),
  requestCert: true,
  rejectUnauthorized: false,
};
https.createServer(tls, provider.callback()).listen(config.listen.port, config.listen.address, () => {
  console.log(`identity provider ${config.issuer} listens on port ${config.listen.port}`);
});
