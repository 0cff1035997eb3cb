import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { clientFrame, createFrameReader, pongFrame, upgradeRequest } from './frames.ts';
import { serveMethods } from './worker.ts';

export interface CrowdOptions {
  /** `ws://…` */
  readonly url: string;
  readonly key: string;
  readonly sockets: number;
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
const POSITION = Buffer.from('"position":"');
const AT_ONCE = 50;

/** Many sockets, each with one subscription, that count frames and check that no position is missing or repeated. */
export function createCrowd() {
  const positions: number[] = [];
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

  async function openOne(number: number, { url, key }: CrowdOptions): Promise<void> {
    const target = new URL(url);
    const socket = connect({ host: target.hostname, port: Number(target.port), noDelay: true });
    await once(socket, 'connect');
    socket.write(upgradeRequest(target));
    await readUpgrade(socket);
    const acknowledged = Promise.withResolvers<void>();
    const reader = createFrameReader({
      text(payload) {
        if (payload.includes('"next"')) receive(number, payload);
        else if (payload.includes('connection_ack')) acknowledged.resolve();
        else fault ??= `expected a frame with an event, found ${payload}`;
      },
      ping: (payload) => void socket.write(pongFrame(payload)),
    });
    socket.on('data', (chunk) => reader.read(chunk));
    socket.on('close', () => {
      fault ??= `socket ${number} was closed`;
      complete.resolve();
    });
    socket.on('error', () => {}); // 'close' follows
    socket.write(clientFrame(JSON.stringify({ type: 'connection_init', payload: { Authorization: `Bearer ${key}` } })));
    await acknowledged.promise;
    const id = `socket-${String(number).padStart(5, '0')}`;
    socket.write(clientFrame(JSON.stringify({ id, type: 'subscribe', payload: { query: QUERY } })));
  }

  return {
    /** Connects and subscribes, some at a time. */
    async open(options: CrowdOptions): Promise<void> {
      for (let number = 0; number < options.sockets; number += AT_ONCE) {
        const numbers = Array.from({ length: Math.min(AT_ONCE, options.sockets - number) }, (_, at) => number + at);
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

async function readUpgrade(socket: Socket): Promise<void> {
  const [chunk] = await once(socket, 'data');
  const text = String(chunk);
  if (!text.startsWith('HTTP/1.1 101') || !text.endsWith('\r\n\r\n')) throw new Error(`no upgrade: ${text}`);
}

/** By hand: parsing 100,000 frames a second as JSON would measure this program. */
function readPosition(payload: Buffer): number {
  let at = payload.indexOf(POSITION) + POSITION.length;
  let position = 0;
  for (let digit = (payload[at] ?? 0) - 0x30; digit >= 0 && digit <= 9; digit = (payload[++at] ?? 0) - 0x30)
    position = position * 10 + digit;
  return position;
}

if (import.meta.main) serveMethods(createCrowd());
