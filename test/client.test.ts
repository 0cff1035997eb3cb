import { createClient } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { WebSocket } from 'ws';
import { type WatchedEvent, type WatchState, watch } from '#client';
import { domain } from '#domain';
import { openProtocolServer, sendPositions } from './client/protocol-server.ts';
import { startApp, type TestApp } from './support/app.ts';
import { eventually } from './support/eventually.ts';
import { openTcpProxy, type TcpProxy } from './support/tcp-proxy.ts';

const CREATED = 'subscription ($after: String) { productCreated(after: $after) { product { sku } } }';

let app: TestApp;
let wire: TcpProxy;

beforeAll(async () => {
  app = await startApp({ backend: 'postgres', domain });
  wire = await openTcpProxy({ port: app.app.port });
});

afterAll(async () => {
  await wire?.close();
  await app?.stop();
});

describe('watching the server', () => {
  test('neither loses nor repeats an event over broken connections', async () => {
    const seen = watchSkus();
    await seen.untilLive(1);
    await wire.cut(); // before the first event: where to go on is known all the same
    await createProduct('one');
    await wire.heal();
    await seen.until(['one']);
    await createProduct('two');
    await seen.until(['one', 'two']);
    await wire.cut();
    await createProduct('three');
    await wire.heal();
    await createProduct('four');
    await seen.until(['one', 'two', 'three', 'four']);
    expect(seen.states.map(({ state }) => state)).toContain('interrupted');
    await seen.stop();
  });

  test('(control) a stock client repeats, because it asks again from where it began', async () => {
    const client = createClient({
      url: wire.through(app.wsUrl),
      connectionParams: { authorization: `Bearer ${app.key}` },
      retryAttempts: 100,
      shouldRetry: () => true, // a reset connection counts as fatal to it otherwise
      retryWait: () => new Promise((resolve) => setImmediate(resolve)),
    });
    const skus: unknown[] = [];
    const { data } = await app.post('{ head }');
    const ended = new Promise<void>((resolve) => {
      const stop = client.subscribe<{ productCreated: { product: { sku: string } } }>(
        { query: CREATED, variables: { after: data.head } },
        {
          next: (result) => skus.push(result.data?.productCreated.product.sku),
          error: () => resolve(),
          complete: resolve,
        },
      );
      onTestFinished(() => stop());
    });
    await createProduct('five');
    await eventually(() => skus.length === 1);
    await wire.cut();
    await wire.heal();
    await eventually(() => skus.length === 2);
    expect(skus).toEqual(['five', 'five']);
    await client.dispose();
    await ended;
  });

  test('goes on behind the cursor of an event', async () => {
    const first = watchSkus();
    await first.untilLive(1);
    await createProduct('six');
    await first.until(['six']);
    await first.stop();
    await createProduct('seven');
    const second = watchSkus({ after: first.events[0]?.cursor });
    await second.until(['seven']);
    await second.stop();
  });

  test.each([
    ['INVALID_CURSOR', { after: 'made-up' }],
    ['GRAPHQL_VALIDATION_FAILED', { query: 'subscription ($after: String) { nothing(after: $after) { id } }' }],
    ['BAD_INPUT', { query: '{ head }' }],
    ['UNAUTHENTICATED', { key: 'ff_wrong' }],
  ])('ends with %s', async (code, options) => {
    const states: WatchState[] = [];
    const ended = watch({ ...base(), onEvent: () => {}, onState: (state) => states.push(state), ...options });
    await expect(ended).rejects.toMatchObject({ name: 'WatchError', code });
    expect(states.filter(({ state }) => state === 'interrupted')).toHaveLength(code === 'UNAUTHENTICATED' ? 2 : 0);
  });

  test('asks for a key before each connection', async () => {
    const keys = ['ff_expired', app.key];
    const seen = watchSkus({ key: async () => keys.shift() ?? app.key });
    await seen.untilLive(1);
    expect(keys).toEqual([]);
    await seen.stop();
  });

  test('ends with what the handler throws', async () => {
    const broken = new Error('disk full');
    const ended = watch({
      ...base(),
      onState: ({ state }) => void (state === 'live' && createProduct('eight')),
      onEvent: () => Promise.reject(broken),
    });
    await expect(ended).rejects.toBe(broken);
  });
});

describe('watching a server of any behaviour', () => {
  test('a slow handler gets all events once, in order, and holds a bounded number', async () => {
    const server = await openServer((after) => ({ events: 2_500 - after }));
    const seen: number[] = [];
    const stopping = new AbortController();
    await watch({
      ...base(),
      url: server.url,
      webSocketImpl: WebSocket,
      signal: stopping.signal,
      onEvent: async ({ cursor }) => {
        seen.push(Number(cursor));
        if (seen.length === 2_500) stopping.abort();
        await new Promise((resolve) => setImmediate(resolve));
      },
    });
    expect(seen).toEqual(Array.from({ length: 2_500 }, (_, at) => at + 1));
    expect(server.asked.length).toBeGreaterThan(1); // it let go and came back
  });

  test.each(['UNAVAILABLE', 'CURSOR_PENDING'])('tries again after %s', async (code) => {
    const server = await openServer((after, attempt) => (attempt === 1 ? { error: { code } } : { events: 1 - after }));
    const states: WatchState[] = [];
    const stopping = new AbortController();
    const { signal } = stopping;
    const onState = (state: WatchState) => states.push(state);
    await watch({ ...base(), url: server.url, signal, onState, onEvent: () => stopping.abort() });
    expect(states[2]).toMatchObject({ state: 'interrupted', reason: expect.stringContaining(code) });
  });

  test('tells the oldest cursor that still works', async () => {
    const server = await openServer(() => ({ error: { code: 'CURSOR_EXPIRED', earliestCursor: 'c7' } }));
    const ended = watch({ ...base(), url: server.url, onEvent: () => {} });
    await expect(ended).rejects.toMatchObject({ code: 'CURSOR_EXPIRED', details: { earliestCursor: 'c7' } });
  });

  test('gives up where the server closes for good', async () => {
    const server = await openServer(() => ({ close: 1009 }));
    const ended = watch({ ...base(), url: server.url, onEvent: () => {} });
    await expect(ended).rejects.toMatchObject({ code: 'CONNECTION_REFUSED', details: { closeCode: 1009 } });
  });

  test('stops while no server is there', async () => {
    const server = await openServer(() => ({ events: 0 }));
    await server.close();
    const stopping = new AbortController();
    const onState = ({ state }: WatchState) => void (state === 'interrupted' && stopping.abort());
    await watch({ ...base(), url: server.url, signal: stopping.signal, onState, onEvent: () => {} });
  });
});

function base() {
  return { url: wire.through(app.url), key: app.key, query: CREATED, random: () => 0.01 };
}

async function createProduct(sku: string): Promise<void> {
  const input = { sku, title: 'Tea', price: { amount: '4.50', currency: 'GBP' } };
  const { data, errors } = await app.post(
    'mutation ($input: ProductCreateInput!) { productCreate(input: $input) { __typename } }',
    { input },
  );
  expect(errors).toBeUndefined();
  expect(data.productCreate.__typename).toBe('ProductCreateSuccess');
}

function watchSkus(options: { after?: string | undefined; key?: () => Promise<string> } = {}) {
  const events: WatchedEvent[] = [];
  const states: WatchState[] = [];
  const stopping = new AbortController();
  const ended = watch({
    ...base(),
    ...options,
    signal: stopping.signal,
    onEvent: (event) => void events.push(event),
    onState: (state) => void states.push(state),
  });
  ended.catch(() => {}); // `stop` gives it to the test
  const skus = () =>
    events.map(({ data }) => (data as { productCreated: { product: { sku: string } } }).productCreated.product.sku);
  return {
    events,
    states,
    untilLive: (times: number) => eventually(() => states.filter(({ state }) => state === 'live').length >= times),
    until: (expected: readonly string[]) => eventually(() => expect(skus()).toEqual(expected)),
    stop: () => {
      stopping.abort();
      return ended;
    },
  };
}

type Behaviour =
  | { readonly events: number }
  | { readonly error: { readonly code: string; readonly earliestCursor?: string } }
  | { readonly close: number };

/** Behaves as told: events are numbered, and a number is a cursor. */
function openServer(behave: (after: number, attempt: number) => Behaviour) {
  return openProtocolServer({
    answer(asked) {
      const after = Number(asked.extensions.after ?? 0);
      const behaviour = behave(after, asked.attempt);
      if ('close' in behaviour) asked.close(behaviour.close);
      else if ('error' in behaviour) asked.error(behaviour.error);
      else {
        const positions = Array.from({ length: behaviour.events }, (_, at) => after + 1 + at);
        sendPositions(asked, positions);
      }
    },
  });
}
