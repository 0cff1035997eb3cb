import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { domain } from '#domain';
import { BACKENDS, startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { openRawSocket } from '../support/live-client.ts';
import { startSecondApp } from '../support/second-app.ts';
import { soon } from './consumer-engine.ts';

const EVENT =
  '__typename id position cursor type name payloadVersion occurredAt subjectType subjectId subjectVersion changed actor requestId causedBy ... on ProductCreated { product { productId sku stock price { amount currency } } }';
const POLL = `query ($name: String!, $waitMs: Int) { consumerPoll(name: $name, waitMs: $waitMs) { events { ${EVENT} } cursor behind } }`;
const CREATE =
  'mutation ($name: String!) { consumerCreate(name: $name) { ... on ConsumerCreateSuccess { consumer { cursor } } } }';
const ACK =
  'mutation ($name: String!, $cursor: String!) { consumerAck(name: $name, cursor: $cursor) { ... on ConsumerAckSuccess { consumer { behind leases { to } } } } }';
const PRODUCT =
  'mutation ($sku: String!) { productCreate(input: { sku: $sku, title: "Tea", price: { amount: "4.50", currency: "EUR" }, stock: 3 }) { ... on ProductCreateSuccess { cursor } ... on Refusal { message } } }';
const waitMs = 30_000;

describe.each(BACKENDS)('a consumer of a server on %s', (backend) => {
  let app: TestApp;
  let skus = 0;
  const open = async (name: string) => {
    const { data } = await app.post(CREATE, { name });
    return data.consumerCreate.consumer.cursor as string;
  };
  const change = async () =>
    expect(await app.post(PRODUCT, { sku: `SKU-${++skus}` })).toMatchObject({
      data: { productCreate: { cursor: expect.any(String) } },
    });
  const untilWaiting = (count: number, at = app) => eventually(async () => expect(await waiting(at)).toBe(count));

  beforeAll(async () => {
    app = await startApp({ backend, domain });
  });
  afterAll(() => app.stop());

  it('hears of a change while it waits, and gets what every other channel gives', async () => {
    const after = await open('http');
    const poll = app.post(POLL, { name: 'http', waitMs });
    await untilWaiting(1);
    await change();
    const { data } = await soon(poll);
    const pulled = await app.post(`query ($after: String) { events(after: $after) { nodes { ${EVENT} } } }`, { after });
    expect(data.consumerPoll).toEqual({
      events: pulled.data.events.nodes,
      cursor: data.consumerPoll.events[0].cursor,
      behind: 0,
    });
    expect(data.consumerPoll.events).toMatchObject([{ __typename: 'ProductCreated', product: { sku: `SKU-${skus}` } }]);
    const { cursor } = data.consumerPoll;
    expect(await app.post(ACK, { name: 'http', cursor })).toEqual({
      data: { consumerAck: { consumer: { behind: 0, leases: [] } } },
    });
  });

  it('is polled over a WebSocket like any query', async () => {
    await open('socket');
    const socket = await openRawSocket(app.wsUrl, { key: app.key });
    socket.send({ id: 'p', type: 'subscribe', payload: { query: POLL, variables: { name: 'socket', waitMs } } });
    await untilWaiting(1);
    await change();
    const { payload } = await soon(socket.find(({ type }) => type === 'next'));
    expect(payload.data.consumerPoll.events).toMatchObject([{ name: 'product.created' }]);
    await socket.end();
  });

  it.each(['HTTP', 'SSE', 'WebSocket'])('takes nothing for a client that has hung up, over %s', async (transport) => {
    const name = `gone-${transport}`;
    await open(name);
    const hangUp = await pollAndLeave(app, transport, { query: POLL, variables: { name, waitMs } });
    await untilWaiting(1);
    await hangUp();
    await untilWaiting(0);
    await change();
    await eventually(async () => {
      const { data } = await app.post('query ($name: String!) { consumer(name: $name) { behind leases { to } } }', {
        name,
      });
      expect(data.consumer).toEqual({ behind: 1, leases: [] });
    });
  });

  it('refuses a key that is revoked while it waits', async () => {
    await open('revoked');
    const key = await createKey(app);
    const poll = fetch(app.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key.secret}`, connection: 'close' },
      body: JSON.stringify({ query: POLL, variables: { name: 'revoked', waitMs } }),
    }).then((response) => response.json());
    await untilWaiting(1);
    await app.post('mutation ($id: ID!) { apiKeyRevoke(id: $id) { __typename } }', { id: key.id });
    await change();
    expect(await soon(poll)).toMatchObject({ errors: [{ extensions: { code: 'UNAUTHENTICATED' } }] });
  });

  if (backend !== 'postgres and redis') return; // the others have one process

  it('hears of a change on another node', async () => {
    await open('nodes');
    const second = await startSecondApp(app, { domain });
    try {
      const poll = second.post(POLL, { name: 'nodes', waitMs });
      await untilWaiting(1, second);
      await change();
      expect((await soon(poll)).data.consumerPoll.events).toHaveLength(1);
    } finally {
      await second.stop();
    }
  });
});

it('a poll that waits is answered when its server stops', async () => {
  const app = await startApp({ backend: 'embedded', domain, env: { DRAIN_SECONDS: '20' } });
  await app.post(CREATE, { name: 'c' });
  const polls = Array.from({ length: 3 }, () => app.post(POLL, { name: 'c', waitMs }));
  await eventually(async () => expect(await waiting(app)).toBe(3));
  const stopped = app.stop();
  for (const poll of polls)
    expect(await soon(poll)).toEqual({ data: { consumerPoll: { events: [], cursor: null, behind: 0 } } });
  await stopped;
});

async function waiting({ url }: TestApp): Promise<number> {
  const response = await fetch(new URL('/metrics', url), { headers: { connection: 'close' } });
  return Number(/^fanfare_waiting_polls (\d+)$/m.exec(await response.text())?.[1]);
}

async function createKey(app: TestApp): Promise<{ readonly id: string; readonly secret: string }> {
  const { data } = await app.post(
    'mutation ($scopes: [String!]!) { apiKeyCreate(scopes: $scopes) { ... on ApiKeyCreateSuccess { apiKey { id } secret } } }',
    { scopes: (await app.post('{ viewer { scopes } }')).data.viewer.scopes },
  );
  const { apiKey, secret } = data.apiKeyCreate;
  return { id: apiKey.id, secret };
}

/** Asks over a transport. @returns what hangs up before the answer */
async function pollAndLeave(app: TestApp, transport: string, payload: object): Promise<() => Promise<unknown>> {
  if (transport === 'WebSocket') {
    const socket = await openRawSocket(app.wsUrl, { key: app.key });
    socket.send({ id: 'p', type: 'subscribe', payload });
    return () => socket.end();
  }
  const gone = new AbortController();
  const accept = transport === 'SSE' ? 'text/event-stream' : 'application/json';
  const answer = fetch(app.url, {
    method: 'POST',
    headers: { accept, 'content-type': 'application/json', authorization: `Bearer ${app.key}` },
    body: JSON.stringify(payload),
    signal: gone.signal,
  });
  const refused = expect(answer).rejects.toThrow('aborted');
  return () => {
    gone.abort();
    return refused;
  };
}
