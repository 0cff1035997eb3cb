import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectPostgres, type Database } from '../../src/database/connect.ts';
import { prune } from '../../src/outbox/prune.ts';
import { readEvents } from '../../src/outbox/read.ts';
import { type GraphqlAnswer, startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { queryBeside } from '../support/installation.ts';
import { openRawSocket, openSse, subscribeMessage } from '../support/live-client.ts';
import { settledHead, untilPublished } from '../support/live-handover.ts';
import { wrapLog } from '../support/log-database.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';

const QUERY =
  'subscription ($after: String) { events(after: $after) { position ... on NoteWritten { note { text } } } }';
const EXPIRED = { code: 'CURSOR_EXPIRED', earliestCursor: expect.any(String) as string };

const { domain, probes } = createProbeDomain();
let app: TestApp;
let database: Database;
beforeAll(async () => {
  app = await startApp({ backend: 'postgres', domain, domainMigrations: toyMigrations });
  database = await connectPostgres({ url: app.env.DATABASE_URL ?? '', maxConnections: 2 });
});
afterAll(async () => {
  await database.close();
  await app.stop();
});

const head = async () => (await app.post('{ head }')).data.head as string;
const positions = (results: readonly GraphqlAnswer[]) =>
  results.flatMap(({ data }) => (data?.events === undefined ? [] : [Number(data.events.position)]));
const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, at) => from + at);

/** A subscriber that does not read, by either transport. */
interface Stalled {
  resume(): void;
  /** What it has got, in order. */
  results(): readonly GraphqlAnswer[];
  /** `extensions` of the error that it ended with. */
  error(): unknown;
  end(): void;
}

async function stallSocket(after: string): Promise<Stalled> {
  const socket = await openRawSocket(app.wsUrl, { key: app.key });
  socket.send(subscribeMessage('1', QUERY, { variables: { after } }));
  socket.socket.pause();
  const payloads = (type: string) => socket.received.flatMap((each) => (each.type === type ? [each.payload] : []));
  return {
    resume: () => socket.socket.resume(),
    results: () => payloads('next'),
    error: () => payloads('error')[0]?.[0].extensions,
    end: () => void socket.end(),
  };
}

async function stallSse(after: string): Promise<Stalled> {
  const sse = await openSse(app.url, { key: app.key, query: QUERY, variables: { after } });
  sse.pause();
  return {
    resume: () => sse.resume(),
    results: () => sse.results().filter(({ data }) => data !== undefined),
    error: () => sse.results().find(({ errors }) => errors !== undefined)?.errors?.[0]?.extensions,
    end: () => sse.end(),
  };
}

describe('a replay that retention overtakes', () => {
  it('ends with CURSOR_EXPIRED behind an unbroken beginning, never with a gap', async () => {
    const start = await head();
    // more than the kernel takes for a client that does not read
    for (let n = 0; n < 5; n++) await settledHead(app, (await notesWrite(app, { count: 40, size: 200_000 })).cursor);
    await wrapLog(database).advanceClock(10 * 86_400_000);
    const last = await settledHead(app, (await notesWrite(app, { count: 5 })).cursor);
    const stalled = await Promise.all([stallSocket(start), stallSse(start)]);
    // each holds what the kernel took, and the server waits for it
    await eventually(async () => (await app.post('{ head }')).data.head !== undefined);
    await prune(database, { retentionDays: 7 }, () => {});
    // what reads on without asking whether all is still there
    const naive = await readEvents(database.db, { accountId: 'acc_default', filters: [], after: 3, limit: 1_000 });
    expect(naive[0]?.position).toBe(201);
    for (const each of stalled) {
      each.resume();
      await eventually(() => each.error() !== undefined);
      expect(each.error()).toEqual(EXPIRED);
      const got = positions(each.results());
      expect(got).toEqual(numbers(1, got.length));
      expect(got.length).toBeLessThan(last - 5);
      each.end();
    }
  });
});

describe('a live stream whose place retention overtakes', () => {
  it('ends with CURSOR_EXPIRED, never with a gap', async () => {
    await untilPublished(app, await settledHead(app, (await notesWrite(app, { count: 1 })).cursor));
    let release = () => {};
    probes.hold = new Promise<void>((resolve) => {
      release = resolve;
    });
    const query = 'subscription { events { position ... on NoteWritten { held } } }';
    const socket = await openRawSocket(app.wsUrl, { key: app.key });
    socket.send(subscribeMessage('1', query));
    const sse = await openSse(app.url, { key: app.key, query });
    const first = (await settledHead(app, (await notesWrite(app, { count: 1 })).cursor)) as number;
    // more than waits for an execution: they are dropped, to be read from Postgres
    for (let n = 0; n < 3; n++) await notesWrite(app, { count: 500 });
    const last = await settledHead(app, (await notesWrite(app, { count: 1 })).cursor);
    await untilPublished(app, last);
    await queryBeside(app, 'delete from fanfare.log where position <= $1', [first + 700]);
    release();
    probes.hold = undefined;
    const error = await socket.find(({ type }) => type === 'error');
    expect(error.payload).toMatchObject([{ extensions: EXPIRED }]);
    await sse.ended;
    expect(sse.results().at(-1)?.errors).toMatchObject([{ extensions: EXPIRED }]);
    const overSocket = socket.received.flatMap((each) => (each.type === 'next' ? [each.payload] : []));
    for (const results of [overSocket, sse.results()]) {
      const got = positions(results);
      expect(got).toEqual(numbers(first, first + got.length - 1));
      expect(got.length).toBeLessThan(700);
    }
    // a new one behind the earliest cursor gets all that is left
    const { earliestCursor } = error.payload[0].extensions;
    const again = await openSse(app.url, { key: app.key, query: QUERY, variables: { after: earliestCursor } });
    await eventually(() => again.results().length === last - first - 700);
    expect(positions(again.results())).toEqual(numbers(first + 701, last));
    again.end();
    await socket.end();
  });
});
