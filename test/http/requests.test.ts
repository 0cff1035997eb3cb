import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApp, type TestApp } from '../support/app.ts';
import { exchange } from '../support/live-client.ts';
import { createProbeDomain } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';

const ALLOWED = 'https://shop.example';

let app: TestApp;
beforeAll(async () => {
  const { domain } = createProbeDomain();
  const env = { CORS_ORIGINS: ALLOWED, GRAPHIQL: 'on' };
  app = await startApp({ backend: 'postgres', domain, domainMigrations: toyMigrations, env });
});
afterAll(() => app.stop());

interface Sent {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Uint8Array | ReadableStream;
}

async function send({ method = 'POST', path = '', headers = {}, body }: Sent) {
  const response = await fetch(app.url + path, {
    method,
    headers: { 'content-type': 'application/json', authorization: `Bearer ${app.key}`, ...headers },
    ...(body === undefined ? {} : { body: body as never, duplex: 'half' }),
  });
  const text = await response.text();
  const parsed = text.startsWith('{') ? JSON.parse(text) : undefined;
  return {
    status: response.status,
    headers: response.headers,
    text,
    code: parsed?.errors?.[0]?.extensions?.code,
    parsed,
  };
}

const json = (value: unknown) => JSON.stringify(value);
const query = (text: string, more = {}) => json({ query: text, ...more });
const port = () => Number(new URL(app.url).port);
const alive = async () =>
  expect((await send({ body: query('{ __typename }') })).parsed).toEqual({ data: { __typename: 'Query' } });

describe('a body', () => {
  it('of another type or encoding is refused with 415', async () => {
    const types = [
      'text/plain',
      'application/graphql',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/json; charset=utf-16',
      'application/jsonp',
      '',
    ];
    for (const type of types) {
      const answer = await send({
        headers: { 'content-type': type },
        body: query('mutation { notesWrite(count: 1) { __typename } }'),
      });
      expect(answer, type).toMatchObject({ status: 415, code: 'BAD_INPUT' });
    }
    expect((await send({ headers: { 'content-encoding': 'gzip' }, body: query('{ head }') })).status).toBe(415);
    for (const type of [
      'application/json',
      'Application/JSON ; charset=UTF-8',
      'application/json; charset="utf-8"; v=1',
    ])
      expect((await send({ headers: { 'content-type': type }, body: query('{ head }') })).status, type).toBe(200);
  });

  it('over 256 KiB is refused with 413, announced or not', async () => {
    const large = query(`{ __typename } #${'x'.repeat(300_000)}`);
    expect(await send({ body: large })).toMatchObject({ status: 413, code: 'BAD_INPUT' });
    const chunk = new TextEncoder().encode('x'.repeat(64 * 1024));
    let sent = 0;
    const endless = new ReadableStream({
      pull(controller) {
        sent++;
        controller.enqueue(chunk);
        if (sent > 10_000) controller.close();
      },
    });
    expect(await send({ body: endless })).toMatchObject({ status: 413, code: 'BAD_INPUT' });
    // of 10,000: what the kernel holds for the connection, and what was on its way until the answer was seen
    expect(sent).toBeLessThan(1_000);
    await alive();
  });

  it('that is no UTF-8, no JSON, no object or too deep is refused with 400', async () => {
    const bodies = [
      Buffer.concat([Buffer.from('{"query":"{ __typename #'), Buffer.from([0xff, 0xfe]), Buffer.from(' }"}')]),
      Buffer.from(query('{ head }'), 'utf16le'),
      '',
      '{',
      '{"query":"{ head }"',
      '5',
      '"text"',
      'null',
      '[]',
      json(Array.from({ length: 100 }, () => ({ query: '{ head }' }))),
      json({}),
      json({ query: '' }),
      json({ query: null }),
      json({ query: ['{ head }'] }),
      json({ query: '{ head }', variables: [] }),
      json({ query: '{ head }', variables: 'x' }),
      json({ query: '{ head }', operationName: {} }),
      json({ query: '{ head }', extensions: 'x' }),
      `{"query":"{ head }","variables":${'['.repeat(2_000)}${']'.repeat(2_000)}}`,
      `{"query":"{ head }","extensions":{"a":${'{"a":'.repeat(100_000 / 5)}1${'}'.repeat(100_000 / 5)}}}`,
    ];
    for (const body of bodies) {
      const answer = await send({ body });
      expect(answer, String(body).slice(0, 60)).toMatchObject({ status: 400, code: 'BAD_INPUT' });
      expect(answer.parsed.data).toBeUndefined();
    }
    await alive();
  });
});

describe('a document', () => {
  const refused = (text: string, more = {}) => send({ body: query(text, more) });

  it('that can not be parsed or validated has its code', async () => {
    expect(await refused('{')).toMatchObject({ status: 400, code: 'GRAPHQL_PARSE_FAILED' });
    expect(await refused('{ nothing }')).toMatchObject({ status: 400, code: 'GRAPHQL_VALIDATION_FAILED' });
    expect(await refused('{ events(first: "x") { __typename } }')).toMatchObject({ code: 'GRAPHQL_VALIDATION_FAILED' });
    expect(await refused('query ($n: Int!) { events(first: $n) { __typename } }')).toMatchObject({
      status: 400,
      code: 'BAD_INPUT',
    });
  });

  it('with several operations, or none of the name, is refused', async () => {
    const both = 'query a { head } query b { head }';
    expect(await refused(both)).toMatchObject({ status: 400, code: 'BAD_INPUT' });
    expect(await refused(both, { operationName: 'c' })).toMatchObject({ status: 400, code: 'BAD_INPUT' });
    expect((await refused(both, { operationName: 'b' })).status).toBe(200);
  });

  it('that is too large in any way is refused before it runs', async () => {
    const repeat = (n: number, unit: (at: number) => string) =>
      Array.from({ length: n }, (_, at) => unit(at)).join(' ');
    const documents = {
      aliases: `{ ${repeat(101, (at) => `a${at}: __typename`)} }`,
      tokens: `{ ${repeat(3_000, () => '__typename')} }`,
      fields: `{ ${repeat(1_500, () => '__typename')} }`,
      directives: `{ __typename ${repeat(100, () => '@include(if: true)')} }`,
      unknownDirectives: `{ __typename ${repeat(10_000, () => '@aa')} }`,
      operations: repeat(100, (at) => `query q${at} { head }`),
      depth: `{ events { nodes { ${'... on NoteWritten { id '.repeat(3)} ${'}'.repeat(3)} } } __schema { types { ${'ofType { '.repeat(20)} name ${'}'.repeat(20)} } } }`,
      bomb: `{ events { nodes { ...f0 } } } ${repeat(20, (at) => `fragment f${at} on Event { a: id ...f${at + 1} ...f${at + 1} }`)} fragment f20 on Event { id }`,
      cycle: '{ events { nodes { ...f } } } fragment f on Event { ...g } fragment g on Event { ...f }',
      lists: `{ nodes(ids: ${'['.repeat(5_000)}${']'.repeat(5_000)}) { id } }`,
    };
    for (const [name, text] of Object.entries(documents)) {
      const answer = await send({ body: query(text, { operationName: name === 'operations' ? 'q1' : null }) });
      expect(answer.status, name).toBe(400);
      expect(answer.code, name).toMatch(/^GRAPHQL_(PARSE|VALIDATION)_FAILED$/);
      expect(answer.text.length, name).toBeLessThan(4_096);
    }
    await alive();
  });
});

describe('a GET', () => {
  const get = (text: string, headers: Record<string, string> = {}) =>
    send({ method: 'GET', path: `?query=${encodeURIComponent(text)}`, headers });

  it('runs a query, and refuses mutations and subscriptions on any accepted type', async () => {
    expect((await get('{ __typename }')).parsed).toEqual({ data: { __typename: 'Query' } });
    const mutation = 'mutation { notesWrite(count: 1) { __typename } }';
    for (const accept of ['application/json', 'text/event-stream']) {
      const answer = await get(mutation, { accept });
      expect(answer, accept).toMatchObject({ status: 405, code: 'BAD_INPUT' });
      expect(answer.headers.get('allow')).toBe('POST');
    }
    expect(await get('subscription { events { id } }', { accept: 'application/json' })).toMatchObject({ status: 400 });
    expect((await app.post('{ events { nodes { id } } }')).data.events.nodes).toEqual([]);
  });

  it('needs the key as a POST does', async () => {
    for (const path of ['?query={head}', '', '?%71uery={head}']) {
      const answer = await send({ method: 'GET', path, headers: { authorization: '' } });
      expect(answer).toMatchObject({ status: 401, code: 'UNAUTHENTICATED' });
    }
  });

  it('of a browser gets GraphiQL, and never an answer, without a key', async () => {
    for (const path of ['', '?%71uery=%7B__typename%7D']) {
      const page = await send({ method: 'GET', path, headers: { accept: 'text/html', authorization: '' } });
      expect(page.headers.get('content-type')).toContain('text/html');
      expect(/^\s*</.test(page.text)).toBe(true);
    }
  });

  it('of a page elsewhere is refused', async () => {
    for (const accept of ['application/json', 'text/event-stream', 'text/html']) {
      const headers = { origin: 'https://evil.example', accept };
      expect(await get('{ __typename }', headers), accept).toMatchObject({ status: 403, code: 'FORBIDDEN' });
      expect((await get('{ __typename }', { ...headers, authorization: '' })).status).toBe(403);
    }
    for (const origin of [ALLOWED, new URL(app.url).origin])
      expect((await get('{ __typename }', { origin })).status).toBe(200);
  });

  it('is the only other method', async () => {
    for (const accept of ['*/*', 'text/event-stream'])
      for (const method of ['PUT', 'DELETE', 'PATCH'])
        expect(
          (await send({ method, headers: { accept }, body: query('{ head }') })).status,
          `${method} ${accept}`,
        ).toBe(405);
  });
});

describe('a key', () => {
  it('that is missing or wrong is answered by one text and 401', async () => {
    const [id, secret] = app.key.split('_').slice(1);
    const wrong = [
      'Bearer x',
      `Bearer ff_${id}_${secret}_00000000`,
      `Basic ${app.key}`,
      'Bearer',
      '',
      `Bearer ${app.key}x`,
    ];
    const answers = await Promise.all(
      wrong.map((authorization) => send({ headers: { authorization }, body: query('{ head }') })),
    );
    for (const answer of answers) {
      expect(answer).toMatchObject({ status: 401, code: 'UNAUTHENTICATED' });
      expect(answer.headers.get('www-authenticate')).toBe('Bearer');
      expect(answer.parsed.data).toBeUndefined();
    }
  });

  it('without the scope introspect reads no schema, neither by asking nor by suggestions', async () => {
    const made = await app.post(
      'mutation { apiKeyCreate(scopes: ["events:read"]) { ... on ApiKeyCreateSuccess { secret } } }',
    );
    const authorization = `Bearer ${made.data.apiKeyCreate.secret}`;
    const ask = (text: string, more = {}) => send({ headers: { authorization }, body: query(text, more) });
    const asking = [
      '{ __schema { types { name } } }',
      '{ __schema\n{ types { name } } }',
      '{ __type(name: "Note") { name } }',
      'query { ...x } fragment x on Query { s: __schema { types { name } } }',
    ];
    for (const text of asking) expect(await ask(text), text).toMatchObject({ status: 403, code: 'FORBIDDEN' });
    const guesses: [string, object?][] = [
      ['{ __schem { x } }'],
      ['{ evens { nodes { id } } }'],
      ['{ events(firs: 1) { nodes { id } } }'],
      ['{ events(filter: { types: [NOTE_WRITEN] }) { nodes { id } } }'],
      ['{ events(filter: { type: [] }) { nodes { id } } }'],
      ['{ events { nodes { ... on NoteWriten { id } } } }'],
      ['query ($f: EventFilter) { events(filter: $f) { nodes { id } } }', { variables: { f: { type: [] } } }],
      [
        'query ($f: EventFilter) { events(filter: $f) { nodes { id } } }',
        { variables: { f: { types: ['NOTE_WRITEN'] } } },
      ],
      [
        'subscription ($f: EventFilter) { events(filter: $f) { id } }',
        { variables: { f: { types: ['NOTE_WRITEN'] } } },
      ],
    ];
    for (const [text, more] of guesses) {
      const answer = await send({
        headers: { authorization, ...(text.startsWith('sub') ? { accept: 'text/event-stream' } : {}) },
        body: query(text, more),
      });
      expect(answer.status, text).toBe(400);
      expect(answer.text, text).not.toContain('Did you mean');
    }
    expect((await send({ body: query('{ evens { nodes { id } } }') })).text).toContain('Did you mean');
  });
});

describe('a browser', () => {
  it('gets CORS headers for a listed origin only', async () => {
    const preflight = (origin: string) =>
      send({ method: 'OPTIONS', headers: { origin, 'access-control-request-method': 'POST' } });
    const allowed = await preflight(ALLOWED);
    expect(allowed.status).toBe(204);
    expect(allowed.headers.get('access-control-allow-origin')).toBe(ALLOWED);
    expect(allowed.headers.get('access-control-allow-headers')).toContain('authorization');
    for (const origin of ['https://evil.example', 'null', `${ALLOWED}.evil.example`, 'http://shop.example']) {
      for (const answer of [await preflight(origin), await send({ headers: { origin }, body: query('{ head }') })]) {
        expect(answer.headers.get('access-control-allow-origin'), origin).toBeNull();
        expect(answer.headers.get('vary')).toContain('Origin');
      }
    }
    expect(allowed.headers.get('access-control-allow-credentials')).toBeNull();
  });
});

describe('the connection', () => {
  const raw = (lines: string[]) => exchange(port(), `${lines.join('\r\n')}\r\n\r\n`);

  it('is refused for two Hosts, none, or a target that is no path', async () => {
    expect(await raw(['GET /healthz HTTP/1.1', 'Host: a', 'Host: b', 'Connection: close'])).toMatch(/^HTTP\/1.1 400 /);
    expect(await raw(['GET /healthz HTTP/1.1', 'Connection: close'])).toMatch(/^HTTP\/1.1 400 /);
    expect(await raw(['GET // HTTP/1.1', 'Host: a', 'Connection: close'])).toMatch(/^HTTP\/1.1 400 /);
    await alive();
  });

  it('is refused for 64 KiB of headers with 431', async () => {
    expect(await raw(['GET /healthz HTTP/1.1', 'Host: a', `X: ${'x'.repeat(64 * 1024)}`])).toMatch(/^HTTP\/1.1 431 /);
  });

  it('of an upgrade elsewhere is refused and closed, whatever the target', async () => {
    const upgrade = [
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
    ];
    expect(await raw(['GET // HTTP/1.1', 'Host: a', ...upgrade])).toMatch(/^HTTP\/1.1 400 /);
    expect(await raw(['GET /other HTTP/1.1', 'Host: a', ...upgrade])).toMatch(/^HTTP\/1.1 404 /);
    expect(await raw(['GET /graphql HTTP/1.1', 'Host: a', 'Host: b', ...upgrade])).toMatch(/^HTTP\/1.1 400 /);
    for (const origin of ['https://evil.example', 'null'])
      expect(await raw(['GET /graphql HTTP/1.1', 'Host: a', `Origin: ${origin}`, ...upgrade])).toMatch(
        /^HTTP\/1.1 403 /,
      );
    await alive();
  });
});

describe('beside the API', () => {
  it('tells its health, readiness and numbers without a key', async () => {
    const at = (path: string) => fetch(new URL(path, app.url));
    expect([(await at('/healthz')).status, (await at('/readyz')).status, (await at('/nothing')).status]).toEqual([
      200, 200, 404,
    ]);
    const metrics = await (await at('/metrics')).text();
    expect(metrics).toContain('\nfanfare_streams 0\n');
    expect(metrics).toContain('process_cpu_seconds_total');
  });

  it('takes a request id that is sane, and makes one else', async () => {
    const given = await send({ headers: { 'x-request-id': 'abc-1' }, body: query('{ head }') });
    expect(given.headers.get('x-request-id')).toBe('abc-1');
    const made = await send({ headers: { 'x-request-id': 'a b' }, body: query('{ head }') });
    expect(made.headers.get('x-request-id')).toMatch(/^req_/);
  });

  it('forgets documents rather than keep them all', async () => {
    for (let n = 0; n < 30; n++) await send({ body: query(`{ __typename } #${randomBytes(60_000).toString('hex')}`) });
    await alive();
  });
});
