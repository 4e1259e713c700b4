// A real OpenID provider for the end-to-end tests: `node server.mjs PORT [CONTROL_PORT]`.
//
// It serves discovery, a JWKS, client credentials and the authorization code flow. Access tokens are JWTs (RFC 9068) for
// the audience of the resource that is asked for. Two machine clients decide what a token says of the authentication:
// `stepped-up` gets acr, amr and auth_time, `plain` gets none. In the code flow a person is played who logs in with a
// password, and with a second factor when the client asks for the acr that stands for one.
// Tokens for the resource `https://opaque.example` are opaque, and `gateway` and `gateway-key` may introspect them: by a
// secret, and by a key (RFC 7523). Answers are signed (RFC 9701) where that is asked for.
// The control port listens on loopback alone: POST /rotate starts the provider over with a new signing key and forgets
// the old one, POST /rotate?keep publishes both, GET /kid tells which key signs, GET /gateway-key is the key of `gateway-key`.

import { createServer } from 'node:http';
import { X509Certificate, generateKeyPairSync, randomBytes, webcrypto } from 'node:crypto';

globalThis.crypto ??= webcrypto; // Node 18, which Debian 12 has, keeps it behind a flag.
const { Provider } = await import('oidc-provider');

const port = Number(process.argv[2]);
const controlPort = Number(process.argv[3]);
if (!Number.isInteger(port) || !Number.isInteger(controlPort)) {
  console.error('usage: node server.mjs PORT CONTROL_PORT');
  process.exit(2);
}
const issuer = `http://127.0.0.1:${port}`;
const audience = 'https://api.example';
const opaque = 'https://opaque.example';
const pwd = 'urn:example:acr:pwd';
const mfa = 'urn:example:acr:mfa';
const seconds = () => Math.floor(Date.now() / 1000);

function signingKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: randomBytes(8).toString('hex') };
}

const secrets = { 'stepped-up': 'stepped-up-secret', plain: 'plain-secret', bound: 'bound-secret' };

function machine(client_id) {
  return {
    client_id,
    client_secret: secrets[client_id],
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    token_endpoint_auth_method: 'client_secret_post',
  };
}

const gatewayKey = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const gateway = {
  client_secret: 'gateway-secret-0123456789',
  grant_types: [],
  redirect_uris: [],
  response_types: [],
  token_endpoint_auth_method: 'client_secret_basic',
};
const gateways = [
  { ...gateway, client_id: 'gateway' },
  {
    ...gateway,
    client_id: 'gateway-key',
    client_secret: undefined,
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'ES256',
    jwks: { keys: [{ ...gatewayKey.publicKey.export({ format: 'jwk' }), kid: 'gateway-key-1', use: 'sig' }] },
  },
];

const browser = {
  client_id: 'browser',
  token_endpoint_auth_method: 'none',
  grant_types: ['authorization_code'],
  response_types: ['code'],
  redirect_uris: ['http://127.0.0.1/callback'],
  application_type: 'native',
  require_auth_time: true,
  // Where log-outs are told (OpenID Connect Back-Channel Logout 1.0), if anywhere.
  backchannel_logout_uri: process.env.BACKCHANNEL_LOGOUT_URI,
  backchannel_logout_session_required: true,
};

function provider(keys) {
  const made = new Provider(issuer, {
    clients: [
      machine('stepped-up'),
      machine('plain'),
      { ...machine('bound'), tls_client_certificate_bound_access_tokens: true },
      browser,
      ...gateways,
    ],
    jwks: { keys },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    acrValues: [pwd, mfa],
    features: {
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      jwtIntrospection: { enabled: true },
      revocation: { enabled: true },
      backchannelLogout: { enabled: true },
      devInteractions: { enabled: false },
      dPoP: { enabled: true },
      // Its tests play a proxy in front that ends TLS and hands the client's certificate on, DER in base64.
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        getCertificate(ctx) {
          const der = ctx.get('x-test-certificate');
          return der ? new X509Certificate(Buffer.from(der, 'base64')) : undefined;
        },
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => audience,
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, resource) => ({
          audience: resource,
          scope: 'items:read items:write',
          accessTokenFormat: resource === opaque ? 'opaque' : 'jwt',
          accessTokenTTL: 600,
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    extraTokenClaims(ctx, token) {
      if (token.kind === 'ClientCredentials') {
        const sub = token.clientId;
        return sub === 'stepped-up' ? { sub, acr: mfa, amr: ['pwd', 'otp', 'mfa'], auth_time: seconds() } : { sub };
      }
      const code = ctx.oidc.entities.AuthorizationCode;
      return code && { acr: code.acr, amr: code.amr, auth_time: code.authTime };
    },
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    pkce: { required: () => true },
    // The gateway that is told of log-outs is on loopback, where the provider's own dispatcher does not go.
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
    ttl: { Interaction: 600, Session: 600, Grant: 600 },
  });
  made.on('server_error', (_ctx, error) => console.error(error));
  made.on('backchannel.success', () => console.log('told of a log-out'));
  made.on('backchannel.error', (_ctx, error) => console.error(error));
  const callback = made.callback();
  return (request, response) =>
    request.url.startsWith('/interaction/')
      ? person(made, request, response).catch((error) => response.writeHead(500).end(String(error)))
      : callback(request, response);
}

// Plays the person in front of the browser: logs in, with a second factor where the acr for one is asked for, and consents.
async function person(made, request, response) {
  const { prompt, params, session, grantId } = await made.interactionDetails(request, response);
  if (prompt.name === 'login') {
    const second = params.acr_values?.split(' ').includes(mfa);
    const login = { accountId: 'alice', acr: second ? mfa : pwd, amr: second ? ['pwd', 'otp', 'mfa'] : ['pwd'] };
    return made.interactionFinished(request, response, { login });
  }
  const grant = (grantId && (await made.Grant.find(grantId))) ?? new made.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope('openid');
  grant.addResourceScope(audience, 'items:read items:write');
  return made.interactionFinished(request, response, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
}

let keys = [signingKey()];
let handler = provider(keys);

const server = createServer((request, response) => handler(request, response));
const control = createServer((request, response) => {
  const url = new URL(request.url, 'http://control');
  if (request.method === 'POST' && url.pathname === '/rotate') {
    const next = signingKey();
    keys = url.searchParams.has('keep') ? [next, ...keys] : [next];
    handler = provider(keys);
  } else if (url.pathname === '/gateway-key') {
    response.end(gatewayKey.privateKey.export({ type: 'pkcs8', format: 'pem' }));
    return;
  } else if (url.pathname !== '/kid') {
    response.writeHead(404).end();
    return;
  }
  response.end(keys[0].kid);
});

server.listen(port, '127.0.0.1', () => {
  control.listen(controlPort, '127.0.0.1', () => console.log(`ready ${issuer}`));
});
