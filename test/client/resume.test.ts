import type { Sink } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { WebSocket } from 'ws';
import { createFanfareClient, createFanfareSseClient, type FanfareClient } from '#client';
import { eventually } from '../support/eventually.ts';
import { collect, stockClient } from '../support/live-client.ts';
import { settledHead } from '../support/live-handover.ts';
import { notesWrite } from '../support/probe-domain.ts';
import { ALL_EVENTS, followAll, upTo, WAYS } from './followed.ts';
import { type RestartingApp, startRestartingApp } from './restarting-app.ts';

const EVENTS = 2_000;
const BATCH = 20;

let app: RestartingApp;
beforeAll(async () => {
  app = await startRestartingApp();
});
afterAll(() => app?.close());

test('neither client loses or repeats one of 2,000 events over cuts, restarts and 4508; a stock client does', async () => {
  const closes: number[] = [];
  let socket: WebSocket | undefined;
  const { url, key, wire } = app;
  const on = {
    connected: (opened: unknown) => {
      socket = opened as WebSocket; // the global class has the same `send`
    },
    closed: (event: unknown) => void closes.push((event as { code: number }).code),
  };
  const random = () => Math.random() / 20; // waits of a twentieth, so that there is time for more faults
  const clients = [createFanfareClient({ url, key, on, random }), createFanfareSseClient({ url, key, random })];
  const stock = stockClient(app.wsUrl, key, {
    retryAttempts: 1_000,
    shouldRetry: () => true,
    retryWait: () => new Promise((resolve) => setImmediate(resolve)),
  });
  onTestFinished(async () => {
    for (const each of [...clients, stock]) await each.dispose();
  });
  const first = await notesWrite(app.staying, { count: 1 });
  const from = await settledHead(app.staying, first.cursor);
  const followed = clients.map((client) => followAll(client, first.cursor));
  const stocks = [collect(stock, ALL_EVENTS, { after: first.cursor }), collect(stock, ALL_EVENTS)];
  await eventually(() => clients.every(({ state }) => state === 'live'));

  const faults = [
    () => cutAndHeal(app),
    () => flood(clients[0], () => socket),
    () => cutAndHeal(app),
    () => restart(app, clients[0]),
    () => cutAndHeal(app),
    () => cutAndHeal(app),
    () => restart(app, clients[0]),
    () => flood(clients[0], () => socket),
    () => cutAndHeal(app),
  ];
  let last = first.cursor;
  for (let written = 0; written < EVENTS; written += BATCH) {
    last = (await notesWrite(app.staying, { count: BATCH })).cursor;
    // at a moment that nobody has chosen; those that are left come together at the end
    if (Math.random() < 0.09) await faults.shift()?.();
  }
  for (const fault of faults) await fault();
  await wire.heal();

  const head = await settledHead(app.staying, last);
  const expected = upTo(head - from).map((each) => each + from);
  for (const each of followed) {
    await eventually(() => each.error !== undefined || each.positions().at(-1) === head, {
      describe: `position ${head}`,
    });
    expect(each.error).toBeUndefined();
    expect(each.positions()).toEqual(expected);
  }
  expect(closes).toEqual(expect.arrayContaining([1012, 4508]));

  // (control) with a cursor it asks again from where it began, and repeats; without one it loses
  const [repeats, loses] = stocks.map(
    ({ results }) =>
      () =>
        results.map(({ data }) => Number(data?.events.position)),
  );
  await eventually(() => expect(new Set(repeats?.())).toEqual(new Set(expected)));
  expect(repeats?.().length).toBeGreaterThan(expected.length);
  expect(new Set(loses?.()).size).toBeLessThan(expected.length);
}, 240_000);

describe.each(WAYS)('over %s', (_way, create) => {
  test('goes on where a program before it stood', async () => {
    const { cursor, ids } = await notesWrite(app.staying, { count: 3 });
    const head = await settledHead(app.staying, cursor);
    const client = create(app);
    onTestFinished(() => client.dispose());
    const { data } = await app.staying.post('query { events(last: 3) { nodes { cursor } } }');
    const seen: unknown[] = [];
    client.subscribe({ query: ALL_EVENTS }, collecting(seen), { after: data.events.nodes[0].cursor });
    await eventually(() => expect(seen).toHaveLength(ids.length - 1));
    expect(seen).toMatchObject([{ data: { events: { position: String(head - 1) } } }, {}]);
  });

  test.each([
    ['INVALID_CURSOR', ALL_EVENTS, 'made-up'],
    ['GRAPHQL_VALIDATION_FAILED', 'subscription { nothing { id } }', undefined],
  ])('ends with %s, once', async (code, query, after) => {
    const client = create(app);
    onTestFinished(() => client.dispose());
    const errors: unknown[] = [];
    const sink = { ...collecting([]), error: (error: unknown) => void errors.push(error) };
    client.subscribe({ query }, sink, after === undefined ? {} : { after });
    await eventually(() => errors.length > 0);
    await expectIteratorToFail(client, { query, after, code });
    expect(errors).toMatchObject([[{ extensions: { code } }]]);
  });

  test('ends with UNAUTHENTICATED when a key was refused three times', async () => {
    let asked = 0;
    const key = () => `ff_wrong${asked++}`;
    const client = create({ ...app, key, random: () => 0 });
    onTestFinished(() => client.dispose());
    await expectIteratorToFail(client, { query: ALL_EVENTS, code: 'UNAUTHENTICATED' });
    expect(asked).toBe(3);
  });
});

async function expectIteratorToFail(
  client: FanfareClient,
  { query, after, code }: { query: string; after?: string | undefined; code: string },
): Promise<void> {
  const iterator = client.iterate({ query }, after === undefined ? {} : { after });
  await expect(iterator.next()).rejects.toMatchObject({ name: 'WatchError', code });
  expect(await iterator.next()).toEqual({ done: true, value: undefined });
}

function collecting(seen: unknown[]): Sink {
  return { next: (result) => void seen.push(result), error: () => {}, complete: () => {} };
}

async function cutAndHeal({ wire }: RestartingApp): Promise<void> {
  await wire.cut();
  await wire.heal();
}

async function restart(restarting: RestartingApp, client: FanfareClient | undefined): Promise<void> {
  await eventually(() => client?.state === 'live'); // or there would be nothing to close with 1012
  await restarting.stop();
  await restarting.start();
}

/** More than the server takes at once: it closes with 4508. */
async function flood(client: FanfareClient | undefined, socketOf: () => WebSocket | undefined): Promise<void> {
  await eventually(() => client?.state === 'live');
  const socket = socketOf();
  for (let n = 0; n < 300 && socket?.readyState === 1; n++) socket.send('{"type":"ping"}');
  // a wire that is cut meanwhile would take the close code with it
  await eventually(() => socket?.readyState === 3);
}
