import { getActiveResourcesInfo } from 'node:process';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'vitest';
import { readMetric } from './api-user.ts';
import type { TestApp } from './app.ts';
import { eventually } from './eventually.ts';
import { channelPrefix } from './installation.ts';
import { openRawSocket, openSse, type RawSocket, subscribeMessage } from './live-client.ts';
import { redisUrl } from './redis.ts';
import { countChannels } from './redis-server.ts';

/** Subscriptions of one socket: below its messages at once and its operations at once. */
const PER_SOCKET = 40;
/** Ways to leave: each subscription by itself; all with their socket, politely or not; a stream of server-sent events. */
const WAYS = ['complete', 'close', 'terminate', 'sse'] as const;
const AT_ONCE = 5;

/** Subscribes and leaves so often, without an event in between, in all ways; some groups shared, some alone. */
export async function liveQuietly(app: TestApp, cycles: number): Promise<void> {
  const rounds = Math.ceil(cycles / PER_SOCKET);
  for (let round = 0; round < rounds; round += AT_ONCE) {
    const together = Array.from({ length: AT_ONCE }, (_, at) => WAYS[(round + at) % WAYS.length] ?? 'sse');
    await Promise.all(together.map((way) => (way === 'sse' ? comeByStream(app) : comeBySocket(app, way))));
  }
}

const queryOf = (at: number) => `subscription { events { position ${at % 4 === 0 ? 'name' : `p${at}: position`} } }`;

async function comeBySocket(app: TestApp, way: 'complete' | 'close' | 'terminate'): Promise<void> {
  const socket = await openRawSocket(app.wsUrl, { key: app.key });
  for (let at = 0; at < PER_SOCKET; at++)
    socket.send(subscribeMessage(String(at), queryOf(at), { extensions: { checkpoints: true } }));
  // half of them leave before they are live
  if (way !== 'terminate') await untilLive(socket, PER_SOCKET);
  if (way === 'complete') for (let at = 0; at < PER_SOCKET; at++) socket.send({ id: String(at), type: 'complete' });
  if (way === 'terminate') socket.socket.terminate();
  else socket.socket.close();
  await socket.closed;
}

async function untilLive(socket: RawSocket, count: number): Promise<void> {
  const isLive = () => socket.received.filter(({ type }) => type === 'next').length === count;
  await eventually(isLive, { describe: 'all to be live', everyMs: 2 });
}

async function comeByStream(app: TestApp): Promise<void> {
  const streams = await Promise.all(
    Array.from({ length: PER_SOCKET }, (_, at) => openSse(app.url, { key: app.key, query: queryOf(at) })),
  );
  for (const stream of streams) stream.end();
  await Promise.all(streams.map(({ ended }) => ended));
}

/** What a process holds when nobody is connected. */
export interface Holdings {
  readonly heapBytes: number;
  /** Handles and timers by their kind. */
  readonly resources: Readonly<Record<string, number>>;
}

/** Waits until nothing of the streams is left, then takes stock. */
export async function takeStock(app: TestApp): Promise<Holdings> {
  await eventually(async () => {
    expect(await readMetric(app, 'fanfare_streams')).toBe(0);
    expect(await readMetric(app, 'fanfare_stream_groups')).toBe(0);
    expect(await countChannels({ url: redisUrl() }, `${await channelPrefix(app)}shard.`)).toBe(0);
  });
  return { heapBytes: await usedHeap(), resources: countResources() };
}

/** Connections of pools and of the last requests come and go. */
function countResources(): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const kind of getActiveResourcesInfo())
    if (kind === 'Timeout' || kind === 'TCPServerWrap') counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

async function usedHeap(): Promise<number> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void; // what the flag puts there
  for (let pass = 0; pass < 3; pass++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return process.memoryUsage().heapUsed;
}
