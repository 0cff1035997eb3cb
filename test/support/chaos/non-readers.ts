import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { WebSocket, WebSocketServer } from 'ws';
import { makeKey } from '../../../src/identity/key-format.ts';
import { createTestDatabase } from '../database.ts';
import { eventually } from '../eventually.ts';
import { readHead } from '../kill/log.ts';
import { openRawSocket, openSse, type RawSocket, type SseStream, subscribeMessage } from '../live-client.ts';
import { withClient } from '../postgres-client.ts';
import { startProbeServer } from '../probe-server.ts';
import { openReader, type Reader } from './reader.ts';

export interface NonReadersOptions {
  /** Half of them over WebSocket, half over SSE. */
  readonly nonReaders: number;
  /** Of 1 KB each, while the non-readers do not read. */
  readonly events: number;
  /** Before there are non-readers: so that what a server needs for any load is not counted against them. */
  readonly warmUp: number;
  /** How many of each transport read the rest of the log afterwards. */
  readonly resuming: number;
}

/** What became of one that did not read. */
export interface Stalled {
  readonly transport: 'WebSocket' | 'SSE';
  /** Over WebSocket. */
  readonly closeCode: number | undefined;
  /** What it was sent before it was cut off, in order of arrival. */
  readonly positions: readonly number[];
  /** What came behind its last cursor; undefined if it did not resume. */
  readonly resumed: readonly number[] | undefined;
}

export interface NonReadersRun {
  /** Position before the first event that non-readers were to get, and of the last. */
  readonly from: number;
  readonly to: number;
  readonly stalled: readonly Stalled[];
  /** By those who read all the time. */
  readonly healthy: readonly { readonly positions: readonly number[]; readonly breaks: number }[];
  /** Peak of the server's resident memory above where it stood before, in bytes; its garbage is collected after each batch. */
  readonly growthBytes: number;
  /** What it used at most above what it had used before, each time after a collection, in bytes. */
  readonly heldBytes: number;
  /** From the first event that was not read until all that the system had kept was. */
  readonly drainedAfterMs: number;
  /** Whether the server is the process that it was. */
  readonly isAlive: boolean;
}

const QUERY = `subscription ($filter: EventFilter, $after: String) {
  events(filter: $filter, after: $after) { id position ... on NoteWritten { note { text } } }
}`;
const BATCH = 500;

/** Lets subscribers stop reading while events pass by that none of them will take, and others read on. */
export async function runNonReaders(options: NonReadersOptions): Promise<NonReadersRun> {
  await using opened = new AsyncDisposableStack();
  const bed = await openBed(opened);
  const healthy = (['WebSocket', 'SSE'] as const).map((transport) => {
    const plan = { name: `healthy ${transport}`, transport, wanted: 'all', resume: 'last' } as const;
    const reader = openReader(plan, { urls: [bed.url], key: bed.key, after: bed.start, query: QUERY });
    opened.defer(reader.close);
    return reader;
  });
  await bed.write(options.warmUp, healthy);
  const from = options.warmUp;
  const sockets = await openSockets(bed, options.nonReaders / 2);
  const streams = await openStreams(bed, options.nonReaders / 2);
  opened.defer(() => {
    for (const { socket } of sockets) socket.terminate();
    for (const stream of streams) stream.end();
  });
  await bed.streams(healthy.length + options.nonReaders);
  const base = await bed.resetPeak();
  const loadedAt = performance.now();

  await bed.write(options.events, healthy);
  const to = options.warmUp + options.events;
  await bed.streams(healthy.length); // all others are gone from the server, though they have read nothing
  const peak = bed.peak();

  const drained = await Promise.all([...sockets.map(drainSocket), ...streams.map(drainStream)]);
  const drainedAfterMs = performance.now() - loadedAt;
  const stalled: Stalled[] = [];
  for (const [at, each] of drained.entries()) {
    const resumes = at % (options.nonReaders / 2) < options.resuming;
    stalled.push(await readOn(bed, each, { to, resumes }));
  }
  return {
    from,
    to,
    stalled,
    healthy: healthy.map((reader) => ({ positions: [...reader.record().positions], breaks: reader.progress().breaks })),
    growthBytes: peak.residentBytes - base.residentBytes,
    heldBytes: peak.usedBytes - base.usedBytes,
    drainedAfterMs,
    isAlive: await bed.isAlive(),
  };
}

interface Memory {
  readonly residentBytes: number;
  /** After a collection. */
  readonly usedBytes: number;
}

interface Bed {
  readonly url: string;
  readonly key: string;
  /** The cursor before the first event. */
  readonly start: string;
  /** Writes events, batch by batch, each when those who read have the one before. */
  write(events: number, readers: readonly Reader[]): Promise<void>;
  /** Waits until the server has so many. */
  streams(count: number): Promise<void>;
  /** Begins to look for the peaks anew. @returns the memory now */
  resetPeak(): Promise<Memory>;
  peak(): Memory;
  isAlive(): Promise<boolean>;
}

async function openBed(opened: AsyncDisposableStack): Promise<Bed> {
  const database = await createTestDatabase();
  opened.defer(database.drop);
  const key = makeKey();
  const env = { ADMIN_API_KEY: key, DRAIN_SECONDS: '1', DATABASE_URL: database.url, SECRETS_KEY: 'ab'.repeat(32) };
  const server = await startProbeServer(env);
  opened.defer(server.stop);
  let exited = false;
  void server.exited.then(() => {
    exited = true;
  });
  let written = 0;
  let usedBytes = 0;
  return {
    url: server.url,
    key,
    start: await readHead({ url: server.url, key }),
    async write(events, readers) {
      for (const end = written + events; written < end; ) {
        const count = Math.min(BATCH, end - written);
        await withClient(database.url, (client) => client.query(EMIT, [written + 1, written + count]));
        written += count;
        const have = () => readers.every(({ progress }) => progress().last >= written);
        await eventually(have, { describe: `those who read to have ${written} events` });
        // a collector that gets little of a busy machine would be counted as what non-readers cost
        usedBytes = Math.max(usedBytes, await server.collect());
      }
    },
    async streams(count) {
      const gauge = async () => readGauge(await (await fetch(new URL('/metrics', server.url))).text()) === count;
      await eventually(gauge, { describe: `${count} streams`, everyMs: 50 });
    },
    async resetPeak() {
      usedBytes = await server.collect();
      writeFileSync(`/proc/${server.pid}/clear_refs`, '5');
      return { residentBytes: memoryOf(server.pid, 'VmRSS'), usedBytes };
    },
    peak: () => ({ residentBytes: memoryOf(server.pid, 'VmHWM'), usedBytes }),
    isAlive: async () => !exited && (await readHead({ url: server.url, key })) !== '',
  };
}

const EMIT = `select fanfare.emit('acc_default', 'note.written', 'note_' || n,
  jsonb_build_object('note', jsonb_build_object('noteId', 'note_' || n, 'text', repeat('x', 1000)), 'tag', null))
  from generate_series($1::int, $2::int) n`;

function readGauge(metrics: string): number {
  return Number(/^fanfare_streams (\d+)$/m.exec(metrics)?.[1]);
}

function memoryOf(pid: number, line: 'VmRSS' | 'VmHWM'): number {
  const kib = new RegExp(`^${line}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kib) * 1024;
}

function openSockets({ url, key }: Bed, count: number): Promise<RawSocket[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const raw = await openRawSocket(url.replace('http', 'ws'), { key });
      raw.send(subscribeMessage('1', QUERY));
      raw.socket.pause();
      return raw;
    }),
  );
}

function openStreams({ url, key }: Bed, count: number): Promise<SseStream[]> {
  return Promise.all(
    Array.from({ length: count }, async () => {
      const stream = await openSse(url, { key, query: QUERY });
      stream.pause();
      return stream;
    }),
  );
}

/** What the system kept for one that did not read. */
interface Drained extends Pick<Stalled, 'transport' | 'closeCode' | 'positions'> {
  readonly cursor: string | undefined;
}

async function drainSocket({ socket, received, closed }: RawSocket): Promise<Drained> {
  socket.resume();
  const { code } = await closed;
  const results = received.flatMap(({ type, payload }) => (type === 'next' ? [payload] : []));
  return {
    transport: 'WebSocket',
    closeCode: code,
    positions: results.map(({ data }) => Number(data.events.position)),
    cursor: results.at(-1)?.extensions.cursor,
  };
}

async function drainStream(stream: SseStream): Promise<Drained> {
  stream.resume();
  await stream.ended;
  return {
    transport: 'SSE',
    closeCode: undefined,
    positions: stream.results().map(({ data }) => Number(data.events.position)),
    cursor: stream.events.findLast(({ id }) => id !== undefined)?.id,
  };
}

async function readOn(
  { url, key }: Bed,
  { transport, closeCode, positions, cursor }: Drained,
  { to, resumes }: { readonly to: number; readonly resumes: boolean },
): Promise<Stalled> {
  if (!resumes || cursor === undefined) return { transport, closeCode, positions, resumed: undefined };
  const reader = openReader(
    { name: 'resumed', transport, wanted: 'all', resume: 'last' },
    { urls: [url], key, after: cursor },
  );
  const hasAll = () => {
    const progress = reader.progress();
    if (progress.last < to) throw new Error(JSON.stringify(progress));
  };
  await eventually(hasAll, { describe: `all up to ${to} behind position ${positions.at(-1)}` });
  await reader.close();
  return { transport, closeCode, positions, resumed: [...reader.record().positions] };
}

/**
 * The negative control: a server that keeps for its clients whatever they do not take.
 * @returns bytes that it holds for each of so many non-readers when that many messages of a size were sent
 */
export async function hoardFor(
  clients: number,
  { messages, bytes }: { readonly messages: number; readonly bytes: number },
): Promise<number[]> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
  await once(server, 'listening');
  // of a server that listens on TCP
  const { port } = server.address() as { readonly port: number };
  const sockets = Array.from({ length: clients }, () => new WebSocket(`ws://127.0.0.1:${port}`));
  await Promise.all(sockets.map((socket) => once(socket, 'open')));
  for (const socket of sockets) socket.pause();
  const text = 'x'.repeat(bytes);
  for (let n = 0; n < messages; n += 1) {
    for (const client of server.clients) client.send(text);
    if (n % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const held = [...server.clients].map(({ bufferedAmount }) => bufferedAmount);
  for (const socket of [...server.clients, ...sockets]) socket.terminate();
  await new Promise((resolve) => server.close(resolve));
  return held;
}
