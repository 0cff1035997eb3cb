import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectPostgres } from '../../src/database/connect.ts';
import { prune } from '../../src/outbox/prune.ts';
import { readMetric } from '../support/api-user.ts';
import { type GraphqlAnswer, startApp, type TestApp } from '../support/app.ts';
import { positionOfCursor } from '../support/cursor-position.ts';
import { eventually } from '../support/eventually.ts';
import { collect, openRawSocket, openSse, stockClient, subscribeMessage } from '../support/live-client.ts';
import { settledHead, startWriters } from '../support/live-handover.ts';
import { wrapLog } from '../support/log-database.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';

const COPIES = 'subscription ($after: String) { noteCopied(after: $after) { position } }';
const ASKED = { checkpoints: true };
const { domain, probes } = createProbeDomain();

let app: TestApp;
beforeAll(async () => {
  app = await startApp({ backend: 'postgres and redis', domain, domainMigrations: toyMigrations, checkpointMs: 20 });
});
afterAll(() => app.stop());

const head = async () => (await app.post('{ head }')).data.head as string;
/** What clients see of a result beside its data. */
interface StreamAnswer extends GraphqlAnswer {
  readonly extensions?: { readonly cursor: string };
}
const cursorOf = (result: StreamAnswer | undefined) => result?.extensions?.cursor ?? '';
const placeOf = (result: GraphqlAnswer | undefined) => positionOfCursor(cursorOf(result));
const write = async (kind: 'written' | 'copied', count = 1) =>
  settledHead(app, (await notesWrite(app, { count, kind })).cursor);

describe('a stream that asks for checkpoints', () => {
  it('is told where it stands as soon as it is live, over WebSocket and SSE', async () => {
    await write('copied');
    const socket = await openRawSocket(app.wsUrl, { key: app.key });
    socket.send(subscribeMessage('1', COPIES, { extensions: ASKED }));
    const told = await socket.find(({ id }) => id === '1');
    const cursor = await head();
    expect(told).toEqual({ id: '1', type: 'next', payload: { extensions: { cursor } } });
    await socket.end();
    const sse = await openSse(app.url, { key: app.key, query: COPIES, extensions: ASKED });
    await eventually(() => sse.events.length > 0);
    const data = JSON.stringify({ extensions: { cursor } });
    expect(sse.events).toEqual([{ event: 'next', id: cursor, data, comment: undefined }]);
    sse.end();
  });

  it('is told so behind what it has replayed, not before', async () => {
    const after = await head();
    await write('copied', 250);
    const copied = await write('copied');
    const client = stockClient(app.wsUrl, app.key);
    const overSocket = collect(client, COPIES, { after }, ASKED);
    const sse = await openSse(app.url, { key: app.key, query: COPIES, variables: { after }, extensions: ASKED });
    await eventually(() => overSocket.results.length === 252 && sse.results().length === 252);
    for (const results of [overSocket.results, sse.results()]) {
      expect(results.findIndex(({ data }) => data === undefined)).toBe(251);
      expect(results[251]).toEqual({ extensions: { cursor: cursorOf(results[250]) } });
      expect(placeOf(results[251])).toBe(copied);
    }
    sse.end();
    await client.dispose();
  });

  it('is told where the log has moved on to in silence, once for each place', async () => {
    const client = stockClient(app.wsUrl, app.key);
    const collected = collect(client, COPIES, {}, ASKED);
    await eventually(() => collected.results.length === 1);
    const heads = [await write('written', 3)];
    await eventually(() => collected.results.length === 2);
    heads.push(await write('written', 2));
    await eventually(() => collected.results.length === 3);
    const copied = await write('copied');
    await eventually(() => collected.results.length === 4);
    heads.push(await write('written'));
    await eventually(() => collected.results.length === 5);
    expect(collected.results.slice(1).map(placeOf)).toEqual([heads[0], heads[1], copied, heads[2]]);
    expect(collected.results.flatMap(({ data }) => data?.noteCopied ?? [])).toEqual([{ position: String(copied) }]);
    await client.dispose();
  });

  it('shares its group with equal streams that asked for none, which get none', async () => {
    const client = stockClient(app.wsUrl, app.key);
    const after = await head();
    const asked = collect(client, COPIES, { after }, ASKED);
    const plain = [collect(client, COPIES, { after }), collect(client, COPIES, {}, { checkpoints: false })];
    await eventually(async () => (await readMetric(app, 'fanfare_streams')) === 3);
    expect(await readMetric(app, 'fanfare_stream_groups')).toBe(1);
    const written = await write('written');
    await eventually(() => placeOf(asked.results.at(-1)) === written);
    const copied = await write('copied');
    await eventually(() => plain.every(({ results }) => results.length > 0) && asked.results.length === 3);
    for (const { results } of [...plain, asked]) expect(placeOf(results.at(-1))).toBe(copied);
    for (const { results } of plain) expect(results).toHaveLength(1);
    await client.dispose();
  });

  it('is told of no place ahead of an event that is still being executed', async () => {
    const client = stockClient(app.wsUrl, app.key);
    let release = () => {};
    probes.hold = new Promise<void>((resolve) => {
      release = resolve;
    });
    const held = collect(client, 'subscription { noteCopied { position held } }', {}, ASKED);
    const free = collect(client, 'subscription { noteCopied { position } }', {}, ASKED);
    await eventually(() => held.results.length === 1 && free.results.length === 1);
    const copied = await write('copied');
    const moved = await write('written', 2);
    // the sweep that told the other group has been past this one, too
    await eventually(() => placeOf(free.results.at(-1)) === moved);
    expect(held.results).toHaveLength(1);
    expect(placeOf(held.results[0])).toBeLessThan(copied);
    // what the head would have told
    expect(positionOfCursor(await head())).toBeGreaterThanOrEqual(copied);
    release();
    await eventually(() => placeOf(held.results.at(-1)) === moved);
    expect(held.results.map(placeOf).slice(1)).toEqual([copied, moved]);
    probes.hold = undefined;
    await client.dispose();
  });

  it('can go on behind each of its checkpoints under load, without loss or repeat', async () => {
    const client = stockClient(app.wsUrl, app.key);
    const query = 'subscription ($tag: [ID!]) { events(filter: { related: $tag }) { position } }';
    const writers = startWriters(app, { count: 2, events: 2 });
    const start = await head();
    const watch = (tag: string, after: string) => collect(client, query, { tag: [tag] }, { ...ASKED, after });
    const streams = ['note_a', 'note_b'].map((tag) => watch(tag, start));
    for (let n = 0; n < 40; n++) await notesWrite(app, { count: 1, tag: n % 3 === 0 ? 'note_a' : 'note_b' });
    await writers.stop();
    const last = await write('written');
    await eventually(() => streams.every(({ results }) => placeOf(results.at(-1)) === last));
    for (const [at, { results }] of streams.entries()) {
      const places = results.map(placeOf);
      expect(places).toEqual(places.toSorted((a, b) => a - b));
      // only the first checkpoint, which says that it is live now, may stand at the event before it
      const repeated = results.filter((result, index) => index > 0 && places[index - 1] === placeOf(result));
      expect(repeated.length).toBeLessThanOrEqual(1);
      expect(repeated.every(({ data }) => data === undefined)).toBe(true);
      const events = (from: readonly GraphqlAnswer[]) => from.flatMap(({ data }) => data?.events.position ?? []);
      expect(events(results)).toHaveLength([14, 26][at] ?? 0);
      const checkpoints = results.flatMap((result, index) => (result.data === undefined ? [index] : []));
      const resumed = checkpoints.slice(0, 20).map((index) => {
        const again = watch(['note_a', 'note_b'][at] ?? '', cursorOf(results[index]));
        return { again, expected: events(results.slice(index)) };
      });
      await eventually(() => resumed.every(({ again }) => placeOf(again.results.at(-1)) === last));
      for (const { again, expected } of resumed) {
        expect(events(again.results)).toEqual(expected);
        again.unsubscribe();
      }
    }
    await client.dispose();
  });
});

describe('a request for a stream', () => {
  it('begins behind extensions.after whatever the document says, and shares its group', async () => {
    const start = await head();
    const first = await write('copied', 3);
    const positions = (results: readonly GraphqlAnswer[]) =>
      results.map(({ data }) => Number(data.noteCopied.position) - first);
    const sse = await openSse(app.url, { key: app.key, query: COPIES, variables: { after: start } });
    await eventually(() => sse.results().length === 3);
    const [one, two] = sse.events.map(({ id }) => id ?? '');
    const client = stockClient(app.wsUrl, app.key);
    const fixed = 'subscription { noteCopied { position } }';
    const [byVariable, byDocument] = [COPIES, fixed].map((query) =>
      collect(client, query, query === COPIES ? { after: start } : {}, { after: one }),
    );
    const overSse = await openSse(app.url, {
      key: app.key,
      query: COPIES,
      variables: { after: start },
      extensions: { after: one },
    });
    const byHeader = await openSse(app.url, {
      key: app.key,
      query: fixed,
      extensions: { after: one },
      headers: { 'last-event-id': two ?? '' },
    });
    await eventually(() => byVariable?.results.length === 2 && byDocument?.results.length === 2);
    await eventually(() => overSse.results().length === 2 && byHeader.results().length === 1);
    for (const results of [byVariable?.results ?? [], byDocument?.results ?? [], overSse.results()])
      expect(positions(results)).toEqual([-1, 0]);
    expect(positions(byHeader.results())).toEqual([0]);
    expect(await readMetric(app, 'fanfare_stream_groups')).toBe(2);
    for (const each of [sse, overSse, byHeader]) each.end();
    await client.dispose();
  });

  it.each([
    [{ after: 7 }, 'BAD_INPUT'],
    [{ after: ['x'] }, 'BAD_INPUT'],
    [{ after: '' }, 'INVALID_CURSOR'],
    [{ after: 'garbage' }, 'INVALID_CURSOR'],
    [{ checkpoints: 'true' }, 'BAD_INPUT'],
    [{ checkpoints: 1 }, 'BAD_INPUT'],
    [{ checkpoints: {} }, 'BAD_INPUT'],
  ])('with extensions %j is refused as %s', async (extensions, code) => {
    const client = stockClient(app.wsUrl, app.key);
    const refused = collect(client, COPIES, {}, extensions);
    const sse = await openSse(app.url, { key: app.key, query: COPIES, extensions });
    await sse.ended;
    await eventually(() => refused.error !== undefined);
    expect(refused.error).toMatchObject([{ extensions: { code } }]);
    expect([sse.status, JSON.parse(sse.text()).errors[0].extensions.code]).toEqual([400, code]);
    await client.dispose();
  });

  it('may say null for what it does not ask', async () => {
    const sse = await openSse(app.url, { key: app.key, query: COPIES, extensions: { after: null, checkpoints: null } });
    const copied = await write('copied');
    await eventually(() => sse.results().length === 1);
    expect(placeOf(sse.results()[0])).toBe(copied);
    sse.end();
  });
});

describe('a quiet, filtered stream', () => {
  it('outlives retention by its checkpoints, and meets CURSOR_EXPIRED without them', async () => {
    const client = stockClient(app.wsUrl, app.key);
    const database = await connectPostgres({ url: app.env.DATABASE_URL ?? '', maxConnections: 2 });
    const asked = collect(client, COPIES, {}, ASKED);
    const plain = collect(client, COPIES, {});
    await eventually(async () => (await readMetric(app, 'fanfare_streams')) === 2);
    const copied = await write('copied');
    await eventually(() => plain.results.length === 1);
    for (let day = 0; day < 10; day++) {
      const last = await write('written', 2);
      await eventually(() => placeOf(asked.results.at(-1)) === last);
      await wrapLog(database).advanceClock(86_400_000);
      await prune(database, { retentionDays: 7 }, () => {});
    }
    const [kept, lost] = [asked, plain].map(({ results }) => cursorOf(results.at(-1)));
    expect(positionOfCursor(lost)).toBe(copied);
    const late = collect(client, COPIES, { after: lost }, ASKED);
    const back = collect(client, COPIES, { after: kept }, ASKED);
    await eventually(() => late.error !== undefined && back.results.length === 1);
    expect(late.error).toMatchObject([
      { extensions: { code: 'CURSOR_EXPIRED', earliestCursor: expect.any(String) as string } },
    ]);
    expect(late.results).toEqual([]);
    const next = await write('copied');
    await eventually(() => placeOf(back.results.at(-1)) === next);
    await client.dispose();
    await database.close();
  });
});
