import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { serveMethods } from '../../test/support/worker.ts';
import {
  clientFrame,
  createEventReader,
  createFrameReader,
  eventsRequest,
  pongFrame,
  upgradeRequest,
} from './frames.ts';

export interface CrowdOptions {
  /** `ws://…`, or `http://…` for server-sent events. */
  readonly url: string;
  readonly key: string;
  readonly sockets: number;
  /** `each`: every socket subscribes by a document of its own, with its own name for one field. @default 'one' */
  readonly documents?: 'one' | 'each';
  /** @default 'websocket' */
  readonly transport?: 'websocket' | 'sse';
}

/** When a set of frames came, in ms of this process's clock. */
export interface Wave {
  readonly firstAt: number;
  readonly lastAt: number;
  readonly frames: number;
}

const QUERY = `subscription { events(filter: { types: [STOCK_CHANGED] }) {
  id position cursor name occurredAt subjectId subjectVersion ... on StockChanged { sku stock }
} }`;
const AT_ONCE = 50;

/** Many sockets, each with one subscription, that count frames and check that no position is missing or repeated. */
export function createCrowd() {
  const positions: number[] = [];
  let opened = 0;
  let wave = { firstAt: 0, lastAt: 0, frames: 0 };
  let expected = 0;
  let complete = Promise.withResolvers<void>();
  let sample = '';
  let fault: string | undefined;

  function receive(socket: number, payload: Buffer): void {
    const position = readPosition(payload);
    const last = positions[socket] ?? 0;
    if (last !== 0 && position !== last + 1) fault ??= `socket ${socket}: expected ${last + 1}, found ${position}`;
    positions[socket] = position;
    wave.lastAt = performance.now();
    if (wave.frames === 0) wave.firstAt = wave.lastAt;
    wave.frames++;
    if (wave.frames === 1) sample = String(payload);
    if (wave.frames === expected) complete.resolve();
  }

  async function openOne(number: number, { url, key, documents, transport }: CrowdOptions): Promise<void> {
    const target = new URL(url);
    const socket = openSocket(target);
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => {
      fault ??= `socket ${number} was closed`;
      complete.resolve();
    });
    await once(socket, 'connect');
    const query = documents === 'each' ? QUERY.replace('stock }', `stock${number}: stock }`) : QUERY;
    if (transport === 'sse') await openEvents(socket, number, { target, key, query });
    else await openWebSocket(socket, number, { target, key, query });
  }

  async function openWebSocket(socket: ReadingSocket, number: number, { target, key, query }: Asked): Promise<void> {
    socket.write(upgradeRequest(target));
    await readHead(socket, 'HTTP/1.1 101');
    const acknowledged = Promise.withResolvers<void>();
    const reader = createFrameReader({
      text(payload) {
        if (findNext(payload) >= 0) receive(number, payload);
        else if (payload.includes('connection_ack')) acknowledged.resolve();
        else fault ??= `expected a frame with an event, found ${payload}`;
      },
      ping: (payload) => void socket.write(pongFrame(payload)),
    });
    socket.onChunk = reader.read;
    socket.write(clientFrame(JSON.stringify({ type: 'connection_init', payload: { Authorization: `Bearer ${key}` } })));
    await acknowledged.promise;
    const id = `socket-${String(number).padStart(5, '0')}`;
    socket.write(clientFrame(JSON.stringify({ id, type: 'subscribe', payload: { query } })));
  }

  async function openEvents(socket: ReadingSocket, number: number, { target, key, query }: Asked): Promise<void> {
    socket.write(eventsRequest(target, key, JSON.stringify({ query })));
    await readHead(socket, 'HTTP/1.1 200');
    const reader = createEventReader((event) => receive(number, event));
    socket.onChunk = reader.read;
  }

  return {
    /** Connects and subscribes so many more sockets, some at a time. */
    async open(options: CrowdOptions): Promise<void> {
      const until = opened + options.sockets;
      while (opened < until) {
        const numbers = Array.from({ length: Math.min(AT_ONCE, until - opened) }, () => opened++);
        await Promise.all(numbers.map((each) => openOne(each, options)));
      }
    },
    /** How many sockets have got an event so far. */
    countHeard: (): number => positions.filter((position) => position > 0).length,
    /** Begins to count anew. @param events each of which is expected on each socket */
    begin(events: number): void {
      wave = { firstAt: 0, lastAt: 0, frames: 0 };
      expected = events * positions.length;
      complete = Promise.withResolvers();
    },
    /** Resolves when all have come. @throws Error for a gap, a repetition, a stranger's message, a closed socket */
    async finish(): Promise<Wave> {
      await complete.promise;
      if (wave.frames > expected) fault ??= `expected ${expected} frames, found ${wave.frames}`;
      if (fault !== undefined) throw new Error(fault);
      return wave;
    },
    /** A frame's text as it came. */
    sample: (): string => sample,
  };
}

export type Crowd = ReturnType<typeof createCrowd>;

interface Asked {
  readonly target: URL;
  readonly key: string;
  readonly query: string;
}

/** A socket whose chunks go to a function, from one piece of memory for all: streams would cost more than the reading. */
type ReadingSocket = Socket & { onChunk: (chunk: Buffer) => void };

const RECEIVED = Buffer.alloc(64 * 1024);

function openSocket(target: URL): ReadingSocket {
  const callback = (length: number) => {
    socket.onChunk(RECEIVED.subarray(0, length));
    return true;
  };
  const onread = { buffer: RECEIVED, callback };
  const options = { host: target.hostname, port: Number(target.port), noDelay: true, onread };
  const socket: ReadingSocket = Object.assign(connect(options), { onChunk: () => {} });
  return socket;
}

async function readHead(socket: ReadingSocket, status: string): Promise<void> {
  const text = await new Promise<string>((resolve) => {
    socket.onChunk = (chunk) => resolve(String(chunk));
  });
  if (!text.startsWith(status) || !text.endsWith('\r\n\r\n')) throw new Error(`expected ${status}, found ${text}`);
}

const findNext = createFinder('"next"');
const POSITION = '"position":"';
const findPosition = createFinder(POSITION);

/** By hand: parsing 100,000 frames a second as JSON would measure this program. */
function readPosition(payload: Buffer): number {
  let at = findPosition(payload) + POSITION.length;
  let position = 0;
  for (let digit = (payload[at] ?? 0) - 0x30; digit >= 0 && digit <= 9; digit = (payload[++at] ?? 0) - 0x30)
    position = position * 10 + digit;
  return position;
}

/** Finds a text in one payload after another: mostly it stands where it stood last. @returns its index, -1 if there is none */
function createFinder(text: string): (payload: Buffer) => number {
  const sought = Buffer.from(text);
  let last = 0;
  return (payload) => {
    for (let at = 0; at < sought.length; at++) {
      if (payload[last + at] === sought[at]) continue;
      const found = payload.indexOf(sought);
      if (found >= 0) last = found;
      return found;
    }
    return last;
  };
}

if (import.meta.main) serveMethods(createCrowd());
