import { afterAll, beforeAll, expect, it } from 'vitest';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { collect, openSse, stockClient } from '../support/live-client.ts';
import { settledHead, startWriters } from '../support/live-handover.ts';
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
