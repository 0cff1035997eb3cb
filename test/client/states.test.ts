import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createFanfareClient } from '#client';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { settledHead, startWriters } from '../support/live-handover.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { openTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { toyMigrations } from '../support/toy-domain.ts';
import { ALL_EVENTS, followAll, upTo, WAYS } from './followed.ts';

let app: TestApp;
let wire: TcpProxy;
beforeAll(async () => {
  const { domain } = createProbeDomain();
  app = await startApp({ backend: 'postgres', domain, domainMigrations: toyMigrations });
  wire = await openTcpProxy({ port: app.app.port });
});
afterAll(async () => {
  await wire?.close();
  await app?.stop();
});

describe.each(WAYS)('over %s a subscription says that it', (_way, create) => {
  const connect = () => {
    const client = create({ url: wire.through(app.url), key: app.key, random: () => 0.02 });
    onTestFinished(() => client.dispose());
    return client;
  };

  test('is connecting while the wire holds everything back, and live when the server has said so', async () => {
    wire.stall();
    const client = connect();
    const followed = followAll(client);
    const other = await notesWrite(app, { count: 1 }); // the server is there all the while
    await settledHead(app, other.cursor);
    expect(followed.log).toEqual(['connecting']);
    expect(client.state).toBe('connecting');
    await wire.heal();
    await eventually(() => client.state === 'live');
    expect(followed.log).toEqual(['connecting', 'catching up', 'live']);
  });

  test('is interrupted and connecting after a cut, catching up during the replay, live behind its last event', async () => {
    const client = connect();
    const followed = followAll(client);
    await eventually(() => client.state === 'live');
    await wire.cut();
    await eventually(() => followed.log.filter((each) => each === 'connecting').length > 3);
    expect(followed.log.slice(0, 5)).toEqual(['connecting', 'catching up', 'live', 'interrupted', 'connecting']);
    expect(followed.log.slice(3)).not.toContain('live');
    const { cursor } = await notesWrite(app, { count: 300 });
    const head = await settledHead(app, cursor);
    await wire.heal();
    await eventually(() => client.state === 'live');
    const replayed = upTo(300).map((each) => head - 300 + each);
    expect(followed.log.slice(-303)).toEqual(['connecting', 'catching up', ...replayed, 'live']);
  });

  test('is live also where events come while it catches up', async () => {
    const { cursor } = await notesWrite(app, { count: 500 });
    const writers = startWriters(app);
    const clients = upTo(10).map(connect);
    for (const client of clients) followAll(client, cursor);
    await eventually(() => clients.every(({ state }) => state === 'live')).finally(() => writers.stop());
  });

  test('is idle without subscriptions, and as badly off as the worst of several', async () => {
    const client = connect();
    const states: string[] = [];
    client.onState((state) => void states.push(state));
    expect(client.state).toBe('idle');
    const one = followAll(client);
    await eventually(() => client.state === 'live');
    const two = followAll(client);
    expect(client.state).toBe('connecting');
    await eventually(() => client.state === 'live');
    for (const { stop } of [one, two]) stop();
    await eventually(() => client.state === 'idle');
    expect(states.filter((each) => each !== 'catching up')).toEqual([
      'connecting',
      'live',
      'connecting',
      'live',
      'idle',
    ]);
  });

  test('is live behind a filter that lets nothing through, and goes on behind what it has not seen', async () => {
    const client = connect();
    const seen: unknown[] = [];
    const query = 'subscription { events(filter: { types: [NOTE_COPIED] }) { position } }';
    client.subscribe({ query }, { next: (result) => void seen.push(result), error: () => {}, complete: () => {} });
    await eventually(() => client.state === 'live');
    await wire.cut();
    await notesWrite(app, { count: 5 });
    await notesWrite(app, { count: 1, kind: 'copied' });
    await wire.heal();
    await eventually(() => seen.length > 0);
    await eventually(() => client.state === 'live');
    expect(seen).toHaveLength(1); // checkpoints are not for sinks
  });
});

test('a WebSocket that falls silent is live no longer than its pings allow', async () => {
  const client = createFanfareClient({ url: wire.through(app.url), key: app.key, random: () => 0, pingEveryMs: 200 });
  onTestFinished(() => client.dispose());
  const followed = followAll(client);
  await eventually(() => client.state === 'live');
  wire.stall();
  await eventually(() => client.state !== 'live');
  expect(followed.log.at(3)).toBe('interrupted');
  await wire.heal();
  await eventually(() => client.state === 'live');
});

test('a slow receiver is not live before it has taken what came', async () => {
  const client = createFanfareClient({ url: app.url, key: app.key });
  onTestFinished(() => client.dispose());
  const { cursor } = await notesWrite(app, { count: 20 });
  const head = await settledHead(app, cursor);
  const { data } = await app.post('{ events(last: 20) { nodes { cursor } } }');
  const log: unknown[] = [];
  const sink = {
    next: async () => {
      await new Promise((resolve) => setImmediate(resolve));
      log.push('event');
    },
    error: () => {},
    complete: () => {},
  };
  client.subscribe({ query: ALL_EVENTS }, sink, {
    after: data.events.nodes[0].cursor,
    onState: ({ state }) => void log.push(state),
  });
  await eventually(() => client.state === 'live');
  expect(head).toBeGreaterThan(0);
  expect(log).toEqual(['connecting', 'catching up', ...upTo(19).map(() => 'event'), 'live']);
});
