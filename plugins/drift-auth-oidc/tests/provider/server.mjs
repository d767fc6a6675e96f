// The certified OpenID provider, and beside it a port on which tests rotate its keys, break it, and have it sign.
//
//   node server.mjs FOLDER_OF_NODE_MODULES PORT CONTROL_PORT

import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const [modules, port, controlPort] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(`${modules}/${path}`).href);
const { default: Provider } = await load('oidc-provider/lib/index.js');
const { SignJWT, UnsecuredJWT, exportJWK, generateKeyPair } = await load('jose/dist/webapi/index.js');

const issuer = `http://127.0.0.1:${port}`;
const GROUPS = { ann: ['developers', 'acme/backend'], bob: ['outsiders'], admin: ['developers'] };

async function newKey(kid) {
  const { privateKey } = await generateKeyPair('RS256', { extractable: true });
  return { jwk: { ...(await exportJWK(privateKey)), kid, alg: 'RS256', use: 'sig' }, privateKey };
}

const keys = [await newKey('1')];
const foreign = await newKey('1');
let fault = '';
let changed = {};
let down = false;
let asked = 0;

function account(_, sub) {
  return {
    accountId: sub,
    claims: () => ({
      sub,
      preferred_username: sub,
      name: `${sub[0].toUpperCase()}${sub.slice(1)} Example`,
      email: `${sub}@example.org`,
      email_verified: sub !== 'bob',
      groups: GROUPS[sub] ?? [],
    }),
  };
}

const loopback = (paths) => paths.map((path) => `http://127.0.0.1${path}`);
const clients = [
  {
    client_id: 'drift',
    client_secret: 'drift-client-secret',
    application_type: 'native',
    redirect_uris: loopback(
      ['oidc', 'azure', 'google', 'other'].flatMap((p) => [`/auth/${p}/callback`, `/auth/callback/${p}`]),
    ),
  },
];
const FAULTS = {
  nonce: (claims) => ({ ...claims, nonce: 'another' }),
  'no nonce': ({ nonce, ...claims }) => claims,
  audience: (claims) => ({ ...claims, aud: 'another' }),
  party: (claims) => ({ ...claims, aud: [claims.aud, 'another'], azp: 'another' }),
  issuer: (claims) => ({ ...claims, iss: 'https://login.example.org' }),
  expired: (claims) => ({ ...claims, iat: claims.iat - 7200, exp: claims.iat - 3600 }),
  unsigned: (claims) => claims,
  foreign: (claims) => claims,
  claims: (claims) => ({ ...claims, ...changed }),
};

function sign(claims, kind, header = {}) {
  if (kind === 'unsigned') return new UnsecuredJWT(claims).encode();
  const { jwk, privateKey } = kind === 'foreign' ? foreign : keys[0];
  return new SignJWT(claims).setProtectedHeader({ alg: 'RS256', kid: jwk.kid, ...header }).sign(privateKey);
}

// The provider knows its keys from its beginning; what it has given out lies outside of it.
function build() {
  const provider = new Provider(issuer, {
    clients,
    jwks: { keys: keys.map(({ jwk }) => jwk) },
    claims: { openid: ['sub'], profile: ['preferred_username', 'name', 'groups'], email: ['email', 'email_verified'] },
    cookies: { keys: ['a key of the tests'] },
    findAccount: account,
    pkce: { required: () => true },
    features: { devInteractions: { enabled: true } },
    ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 3600, IdToken: 600, Interaction: 600, Session: 3600 },
  });
  provider.use(async (ctx, next) => {
    await next();
    if (fault && ctx.oidc?.route === 'token' && ctx.body?.id_token) {
      const claims = JSON.parse(Buffer.from(ctx.body.id_token.split('.')[1], 'base64url'));
      ctx.body = { ...ctx.body, id_token: await sign(FAULTS[fault](claims), fault) };
    }
  });
  return provider.callback();
}

let answer = build();

// Microsoft Entra has a document for each tenant, and one with a placeholder for all of them.
async function entra(tenant, response) {
  const document = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
  document.issuer = `${issuer}/${tenant === 'organizations' ? '{tenantid}' : tenant}/v2.0`;
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(document));
}

createServer((request, response) => {
  if (request.url.includes('/jwks')) asked += 1;
  if (down) request.socket.destroy();
  else {
    const tenant = /^\/([^/]+)\/v2\.0\/\.well-known\/openid-configuration$/.exec(request.url);
    if (tenant) entra(tenant[1], response);
    else answer(request, response);
  }
}).listen(Number(port), '127.0.0.1');

const CONTROL = {
  '/ready': async () => ({}),
  '/down': async () => void (down = true),
  '/up': async () => void (down = false),
  '/fault': async ({ name, claims }) => {
    fault = name;
    changed = claims ?? {};
  },
  '/asked': async () => ({ asked }),
  '/client': async (client) => {
    clients.push({ client_secret: 'drift-client-secret', ...client });
    answer = build();
  },
  '/rotate': async () => {
    keys.unshift(await newKey(String(keys.length + 1)));
    answer = build();
  },
  '/sign': async ({ claims, kind, header }) => {
    const now = Math.floor(Date.now() / 1000);
    return { token: await sign({ iss: issuer, aud: 'drift', iat: now, exp: now + 600, ...claims }, kind, header) };
  },
};

createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', async () => {
    const result = await CONTROL[request.url](JSON.parse(Buffer.concat(parts).toString() || '{}'));
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(result ?? {}));
  });
}).listen(Number(controlPort), '127.0.0.1');
