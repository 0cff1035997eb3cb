import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { makeKey } from '../../src/identity/key-format.ts';
import { post } from '../support/app.ts';
import { createTestDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { openRawSocket, openSse, stockClient, subscribeMessage } from '../support/live-client.ts';
import { watchPositions } from '../support/position-watch.ts';
import { notesWrite } from '../support/probe-domain.ts';
import { startProbeServer } from '../support/probe-server.ts';

const QUERY =
  'subscription ($after: String) { events(after: $after) { position ... on NoteWritten { note { text } } } }';
/** More than the kernel takes for a stalled socket, and the queue behind it. */
const LARGE = { count: 20, size: 200_000 };
const ROUNDS = 8;
/** 32 MB pass by; the server may keep 1 MiB of it for each of the two, and its garbage for a while. */
const GROWTH_BYTES = 200 * 1024 * 1024;

describe('a subscriber that stops reading', () => {
  it('is cut off with 4508, costs the others nothing, and resumes without loss', async () => {
    const database = await createTestDatabase();
    const env = {
      ADMIN_API_KEY: makeKey(),
      DRAIN_SECONDS: '1',
      DATABASE_URL: database.url,
      SECRETS_KEY: 'ab'.repeat(32),
    };
    const server = await startProbeServer(env);
    const app = {
      key: env.ADMIN_API_KEY,
      url: server.url,
      wsUrl: server.url.replace('http', 'ws'),
      post: (query: string, variables?: Record<string, unknown>) =>
        post({ url: server.url, key: env.ADMIN_API_KEY }, { query, variables }),
    };
    const gauge = async () =>
      /^fanfare_streams (\d+)$/m.exec(await (await fetch(new URL('/metrics', app.url))).text())?.[1];

    const client = stockClient(app.wsUrl, app.key);
    const healthy = watchPositions(client, undefined);
    const stalled = await openRawSocket(app.wsUrl, { key: app.key });
    stalled.send(subscribeMessage('1', QUERY));
    const sse = await openSse(app.url, { key: app.key, query: QUERY });
    await eventually(async () => (await gauge()) === '3');
    const before = await latencies(app, healthy.positions);
    await eventually(() => stalled.received.length > 1 && sse.results().length > 0);
    const tcp = (stalled.socket as unknown as { _socket: Socket })._socket;
    tcp.pause();
    sse.pause();
    const rssBefore = rssOf(server.pid);
    for (let round = 0; round < ROUNDS; round++) await notesWrite(app, LARGE);
    // both are gone from the server, though neither has read a byte of it
    await eventually(async () => (await gauge()) === '1', { describe: 'the stalled streams to end' });
    const after = await latencies(app, healthy.positions);
    expect(rssOf(server.pid) - rssBefore).toBeLessThan(GROWTH_BYTES);
    // one that waited for the stalled would wait for ever; a single one may be late on a busy machine, most are not
    expect(Math.max(...after)).toBeLessThan(10_000);
    expect(median(after)).toBeLessThan(Math.max(20 * median(before), 1_000));

    tcp.resume();
    sse.resume();
    expect(await stalled.closed).toEqual({ code: 4508, reason: 'Slow consumer' });
    await sse.ended;
    const { data } = await app.post('{ events(last: 1) { nodes { position } } }');
    const head = Number(data.events.nodes[0].position);
    const cursors = {
      'over WebSocket': stalled.received.findLast(({ type }) => type === 'next')?.payload.extensions.cursor,
      'over SSE': sse.events.findLast(({ id }) => id !== undefined)?.id,
    };
    const seen = {
      'over WebSocket': stalled.received.flatMap(({ type, payload }) =>
        type === 'next' ? [Number(payload.data.events.position)] : [],
      ),
      'over SSE': sse.results().map((result) => Number(result.data.events.position)),
    };
    for (const way of ['over WebSocket', 'over SSE'] as const) {
      const from = seen[way][0] ?? 0;
      const last = seen[way].at(-1) ?? 0;
      expect(last, way).toBeLessThan(head);
      expect(seen[way], way).toEqual(Array.from({ length: last - from + 1 }, (_, at) => from + at));
      await watchPositions(client, cursors[way]).expectSuffix(last, head);
    }
    expect(healthy.positions().at(-1)).toBe(head);
    await client.dispose();
    await server.stop();
    await database.drop();
  });
});

/** From a change's answer to its event at a subscriber, in ms, one by one. */
async function latencies(app: Parameters<typeof notesWrite>[0], positions: () => number[]): Promise<number[]> {
  const taken: number[] = [];
  for (let n = 0; n < 30; n++) {
    const count = positions().length;
    const before = performance.now();
    await notesWrite(app, { count: 1 });
    await eventually(() => positions().length > count, { everyMs: 1 });
    taken.push(performance.now() - before);
  }
  return taken;
}

function median(taken: readonly number[]): number {
  return taken.toSorted((a, b) => a - b)[Math.floor(taken.length / 2)] ?? 0;
}

function rssOf(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib) * 1024;
}
