import { afterAll, beforeAll, expect, it } from 'vitest';
import { type GraphqlAnswer, startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { collect, exchange, openRawSocket, openSse, stockClient, subscribeMessage } from '../support/live-client.ts';
import { settledHead, startWriters } from '../support/live-handover.ts';
import { withClient } from '../support/postgres-client.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { startSecondApp } from '../support/second-app.ts';
import { toyMigrations } from '../support/toy-domain.ts';

const SOCKETS = 200;
const DRAIN_SECONDS = 2;
const { domain } = createProbeDomain();

let staying: TestApp;
beforeAll(async () => {
  staying = await startApp({ backend: 'postgres and redis', domain, domainMigrations: toyMigrations });
});
afterAll(() => staying.stop());

it('a process that stops hands its stock clients over to another, spread over time, without loss', async () => {
  const leaving = await startSecondApp(staying, {
    domain,
    env: { DRAIN_SECONDS: String(DRAIN_SECONDS), ROLES: 'api' },
  });
  let isLeft = false;
  const closes: { readonly code: number; readonly at: number }[] = [];
  const clients = Array.from({ length: SOCKETS }, () =>
    stockClient(staying.wsUrl, staying.key, {
      url: () => (isLeft ? staying.wsUrl : leaving.wsUrl),
      retryAttempts: 5,
      retryWait: () => Promise.resolve(),
      on: { closed: (event: { code: number }) => void closes.push({ code: event.code, at: performance.now() }) },
    }),
  );
  const { cursor } = await notesWrite(staying, { count: 1 });
  const start = await settledHead(staying, cursor);
  const watches = clients.map((client) =>
    collect(client, 'subscription ($after: String) { events(after: $after) { position } }', { after: cursor }),
  );
  const sse = await openSse(leaving.url, { key: staying.key, query: 'subscription { events { position } }' });
  const writers = startWriters(staying, { count: 1, events: 1 });
  await eventually(() => watches.every(({ results }) => results.length > 0));

  isLeft = true;
  await leaving.stop();
  expect(closes.map(({ code }) => code)).toEqual(Array.from({ length: SOCKETS }, () => 1012));
  const times = closes.map(({ at }) => at).sort((a, b) => a - b);
  expect((times.at(-1) ?? 0) - (times[0] ?? 0)).toBeGreaterThan(DRAIN_SECONDS * 250);
  // no "complete": the stream has an end of its own only where the client said so
  await sse.ended;
  expect(sse.events.filter(({ event }) => event === 'complete')).toEqual([]);

  await writers.stop();
  const head = await settledHead(staying, writers.cursors.at(-1) ?? '');
  for (const watch of watches) {
    // a stock client asks again from where it began: what it has seen is repeated, nothing is left out
    const seen = () => new Set(watch.results.map(({ data }) => Number(data?.events.position)));
    await eventually(() => seen().has(head));
    expect([...seen()].sort((a, b) => a - b)).toEqual(Array.from({ length: head - start }, (_, at) => start + 1 + at));
    expect([watch.error, watch.isComplete]).toEqual([undefined, false]);
  }
  await Promise.all(clients.map((client) => client.dispose()));
});

it('a process stops in time though clients neither read nor close', async () => {
  const leaving = await startSecondApp(staying, { domain, env: { DRAIN_SECONDS: '1', ROLES: 'api' } });
  const sse = await openSse(leaving.url, { key: staying.key, query: 'subscription { events { position } }' });
  sse.pause();
  const idle = await fetch(new URL('/healthz', leaving.url));
  await idle.text();
  const before = performance.now();
  await leaving.stop();
  // in its second and a little; the rest is for a busy machine: nobody else would end them
  expect(performance.now() - before).toBeLessThan(20_000);
  sse.end();
});

const SAVE = 'mutation { noteSave(text: "in flight") { ... on NoteSaveSuccess { note { id } } } }';

/** Holds up whatever writes notes, until the callback is done. */
async function whileNotesAreLocked(work: (waiting: () => Promise<number>) => Promise<void>): Promise<void> {
  await withClient(staying.env.DATABASE_URL ?? '', async (client) => {
    await client.query('begin');
    await client.query('lock table note in access exclusive mode');
    const waiting = async () => {
      const { rows } = await client.query<{ count: string }>(
        'select count(*) from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())',
      );
      return Number(rows[0]?.count);
    };
    await work(waiting);
    await client.query('rollback');
  });
}

it('a process that drains says so while it still answers, takes nothing new, and finishes what it has begun', async () => {
  const leaving = await startSecondApp(staying, { domain, env: { DRAIN_SECONDS: '20', ROLES: 'api' } });
  const [busy, idle] = [await openRawSocket(leaving.wsUrl, staying), await openRawSocket(leaving.wsUrl, staying)];
  let posted: Promise<GraphqlAnswer> | undefined;
  let stopped: Promise<void> | undefined;
  await whileNotesAreLocked(async (waiting) => {
    busy.send(subscribeMessage('save', SAVE));
    posted = leaving.post(SAVE);
    await eventually(async () => (await waiting()) === 2, { describe: 'two changes to wait' });
    stopped = leaving.stop();
    expect((await idle.closed).code).toBe(1012);

    const ready = await fetch(new URL('/readyz', leaving.url));
    expect([ready.status, await ready.text(), ready.headers.get('connection')]).toEqual([503, 'draining\n', 'close']);
    expect((await fetch(new URL('/healthz', leaving.url))).status).toBe(200);
    expect((await leaving.post('{ head }')).errors).toBeUndefined();
    const refused = await openSse(leaving.url, { key: staying.key, query: 'subscription { events { position } }' });
    await refused.ended;
    expect([refused.status, refused.headers['retry-after']]).toEqual([503, '1']);
    expect(JSON.parse(refused.text()).errors[0].extensions.code).toBe('UNAVAILABLE');
    const upgrade = await exchange(
      Number(new URL(leaving.url).port),
      'GET /graphql HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    );
    expect(upgrade).toMatch(/^HTTP\/1\.1 503 .*retry-after: 1\r\n/s);
    // it would have been sent away with the other, were it not for its answer
    expect(busy.socket.readyState).toBe(busy.socket.OPEN);
  });
  expect((await busy.closed).code).toBe(1012);
  expect(busy.received.slice(1)).toMatchObject([
    { id: 'save', type: 'next', payload: { data: { noteSave: { note: {} } } } },
    { id: 'save', type: 'complete' },
  ]);
  expect((await posted)?.data.noteSave.note.id).toMatch(/^note_/);
  await stopped;
});

it('a process with nothing open stops at once, whatever its window', { timeout: 30_000 }, async () => {
  const leaving = await startSecondApp(staying, { domain, env: { DRAIN_SECONDS: '3600', ROLES: 'api' } });
  // a connection that is kept alive, and has no request
  await (await fetch(new URL('/healthz', leaving.url))).text();
  await leaving.stop();
});

it('a few clients are not made to wait for the end of the window', { timeout: 30_000 }, async () => {
  const leaving = await startSecondApp(staying, { domain, env: { DRAIN_SECONDS: '3600', ROLES: 'api' } });
  const sockets = await Promise.all(Array.from({ length: 10 }, () => openRawSocket(leaving.wsUrl, staying)));
  await leaving.stop();
  for (const socket of sockets) expect((await socket.closed).code).toBe(1012);
});
