// Gets an access token as a browser would: `node login.mjs ISSUER [ACR_VALUES [MAX_AGE]]` walks the authorization code
// flow with PKCE (RFC 7636) through every redirect and prints the token. With LOGOUT set it then waits for its standard
// input to end, and logs out at the provider.

import { createHash, randomBytes, webcrypto } from 'node:crypto';

globalThis.crypto ??= webcrypto;
const [issuer, acr, maxAge] = process.argv.slice(2);
const metadata = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
const verifier = randomBytes(32).toString('base64url');
const redirect = 'http://127.0.0.1/callback';
const jar = new Map();

const query = new URLSearchParams({
  client_id: 'browser',
  response_type: 'code',
  redirect_uri: redirect,
  scope: 'openid items:read items:write',
  resource: 'https://api.example',
  code_challenge: createHash('sha256').update(verifier).digest('base64url'),
  code_challenge_method: 'S256',
  state: 'state',
});
if (acr) query.set('acr_values', acr);
if (maxAge) query.set('max_age', maxAge);

let url = new URL(`${metadata.authorization_endpoint}?${query}`);
for (let hops = 0; !url.href.startsWith(redirect); hops += 1) {
  if (hops > 12) throw new Error('too many redirects');
  const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
  const answer = await fetch(url, { redirect: 'manual', headers: { cookie } });
  for (const line of answer.headers.getSetCookie()) {
    const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
    if (value) jar.set(name, value);
    else jar.delete(name);
  }
  const next = answer.headers.get('location');
  if (!next) throw new Error(`${answer.status} from ${url}: ${await answer.text()}`);
  url = new URL(next, url);
}
const code = url.searchParams.get('code');
if (!code) throw new Error(`no code: ${url}`);

const answer = await fetch(metadata.token_endpoint, {
  method: 'POST',
  body: new URLSearchParams({
    grant_type: 'authorization_code',
    client_id: 'browser',
    code,
    redirect_uri: redirect,
    code_verifier: verifier,
    resource: 'https://api.example',
  }),
});
const { access_token: token, ...rest } = await answer.json();
if (!token) throw new Error(JSON.stringify(rest));
console.log(token);

if (process.env.LOGOUT) {
  for await (const _ of process.stdin);
  const cookies = () => [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
  const page = await fetch(metadata.end_session_endpoint, { headers: { cookie: cookies() } });
  for (const line of page.headers.getSetCookie()) {
    const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
    if (value) jar.set(name, value);
  }
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(await page.text())[1];
  const body = new URLSearchParams({ xsrf, logout: 'yes' });
  const end = await fetch(`${metadata.end_session_endpoint}/confirm`, {
    method: 'POST',
    body,
    headers: { cookie: cookies() },
    redirect: 'manual',
  });
  console.log(`logged out ${end.status}`);
}
