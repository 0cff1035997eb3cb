import { once } from 'node:events';
import { WebSocket } from 'ws';
import { serveMethods } from '../../test/support/worker.ts';
import type { Target } from './client.ts';
import { setWallClock } from './wall-clock.ts';

export interface Readers extends Target {
  readonly count: number;
}

/** What the readers have seen in a round. */
export interface Heard {
  /** Of the first event. */
  readonly position: number;
  /** When each event came to each reader, in ms of the day's clock: reader after reader, by position. */
  readonly arrivals: Float64Array;
}

export interface GoingOn extends Target {
  /** How many of the sockets go on. */
  readonly resumed: number;
  /** How many events each then reads, at most. */
  readonly events: number;
  /** Where the log ends. */
  readonly position: number;
}

const QUERY = `subscription ($after: String) { events(after: $after, filter: { types: [STOCK_CHANGED] }) {
  position ... on StockChanged { sku stock }
} }`;
const POSITION = /"position":"(\d+)"/;
const CURSOR = /"extensions":\{"cursor":"([^"]+)"/;
/** What is searched for is at the frame's begin, or at its end: its middle is long. */
const EDGE = 200;

/** Sockets that read what comes, and sockets that stop reading once they have subscribed. */
export function createReaders() {
  let clock = setWallClock();
  let arrivals = new Float64Array();
  let counts: number[] = [];
  let perReader = 0;
  let first = 0;
  let missing = 0;
  let fault: string | undefined;
  let complete = Promise.withResolvers<void>();
  let stalled: Stalled[] = [];

  function receive(reader: number, frame: Buffer): void {
    const at = clock.now();
    const position = positionOf(frame);
    if (first === 0) first = position;
    const expected = first + (counts[reader] ?? 0);
    if (position !== expected) {
      fault ??= `reader ${reader}: expected position ${expected}, found ${position}`;
      complete.resolve();
      return;
    }
    arrivals[reader * perReader + position - first] = at;
    counts[reader] = position - first + 1;
    if (--missing === 0) complete.resolve();
  }

  return {
    /** Subscribes so many readers, for good. */
    async open({ count, ...target }: Readers): Promise<void> {
      for (let reader = 0; reader < count; reader++) {
        const socket = await subscribe(target, undefined);
        socket.on('message', (frame: Buffer) => receive(reader, frame));
        socket.on('close', (code) => {
          fault ??= `reader ${reader} was closed with ${code}`;
          complete.resolve();
        });
      }
    },
    /** Subscribes sockets that read nothing more, for the round that begins next. */
    async stall({ count, ...target }: Readers): Promise<void> {
      for (let number = 0; number < count; number++) stalled.push(await openStalled(target));
    },
    begin({ readers, events }: { readonly readers: number; readonly events: number }): void {
      clock = setWallClock();
      arrivals = new Float64Array(readers * events);
      counts = Array.from({ length: readers }, () => 0);
      perReader = events;
      first = 0;
      missing = readers * events;
      complete = Promise.withResolvers();
    },
    /** Resolves when each reader has got as many events as `begin` has said. @throws Error if one was missing or repeated */
    async finish(): Promise<Heard> {
      await complete.promise;
      if (fault !== undefined) throw new Error(fault);
      return { position: first, arrivals };
    },
    /**
     * Reads what the stalled sockets have been sent, until they are closed. @returns the close codes
     * @throws Error if an event is missing or repeated
     */
    async readStalled(): Promise<readonly number[]> {
      const codes: number[] = [];
      for (const each of stalled) codes.push(await readToEnd(each));
      const broken = stalled.find(({ seen }) => seen.fault !== undefined);
      if (broken !== undefined) throw new Error(broken.seen.fault);
      return codes;
    },
    /**
     * Has some of the stalled ones go on behind their last event, on a new socket; then forgets all.
     * @returns how many events each had missed
     * @throws Error if an event is missing or repeated
     */
    async goOn({ resumed, events, position, ...target }: GoingOn): Promise<readonly number[]> {
      const missed: number[] = [];
      // one after the other: what is measured is over
      for (const { seen } of stalled.slice(0, resumed)) {
        missed.push(position - seen.last);
        await goOn(seen, target, Math.min(position, seen.last + events));
      }
      stalled = [];
      return missed;
    },
  };
}

export type ReaderCrowd = ReturnType<typeof createReaders>;

/** A socket that does not read, and what it will have read. */
interface Stalled {
  readonly socket: WebSocket;
  readonly seen: Seen;
}

/** Positions without gap, and the cursor of the last. */
interface Seen {
  count: number;
  last: number;
  cursor: string | undefined;
  fault: string | undefined;
}

async function openStalled(target: Target): Promise<Stalled> {
  const seen: Seen = { count: 0, last: 0, cursor: undefined, fault: undefined };
  const socket = await subscribe(target, undefined);
  socket.on('message', (frame: Buffer) => note(seen, frame));
  socket.pause();
  return { socket, seen };
}

/** @returns the close code */
async function readToEnd({ socket }: Stalled): Promise<number> {
  const closed = once(socket, 'close');
  socket.resume();
  const [code]: number[] = await closed;
  return code ?? 0;
}

/** Up to this position. */
async function goOn(seen: Seen, target: Target, position: number): Promise<void> {
  if (seen.cursor === undefined) throw new Error('expected events in a stalled socket, found none');
  const socket = await subscribe(target, seen.cursor);
  const complete = Promise.withResolvers<void>();
  socket.on('message', (frame: Buffer) => {
    note(seen, frame);
    if (seen.fault !== undefined) complete.reject(new Error(seen.fault));
    if (seen.last >= position) complete.resolve();
  });
  socket.on('close', (code) => complete.reject(new Error(`the resumed socket was closed with ${code}`)));
  await complete.promise;
  socket.terminate();
}

async function subscribe({ url, key }: Target, after: string | undefined): Promise<WebSocket> {
  const options = { perMessageDeflate: false, skipUTF8Validation: true }; // what is measured shares the machine
  const socket = new WebSocket(url, 'graphql-transport-ws', options);
  await once(socket, 'open');
  socket.send(JSON.stringify({ type: 'connection_init', payload: { Authorization: `Bearer ${key}` } }));
  await once(socket, 'message');
  socket.send(JSON.stringify({ id: '1', type: 'subscribe', payload: { query: QUERY, variables: { after } } }));
  return socket;
}

function note(seen: Seen, frame: Buffer): void {
  const position = positionOf(frame);
  if (seen.count > 0 && position !== seen.last + 1)
    seen.fault ??= `a stalled socket: expected position ${seen.last + 1}, found ${position}`;
  seen.count++;
  seen.last = position;
  seen.cursor = CURSOR.exec(frame.toString('latin1', Math.max(frame.length - EDGE, 0)))?.[1];
}

/** NaN for what is no event. */
function positionOf(frame: Buffer): number {
  return Number(POSITION.exec(frame.toString('latin1', 0, EDGE))?.[1]);
}

if (import.meta.main) serveMethods(createReaders());
