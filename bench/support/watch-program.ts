import { once } from 'node:events';
import { WebSocket } from 'ws';
import { serveMethods } from '../../test/support/worker.ts';
import type { Target } from './client.ts';
import { setWallClock } from './wall-clock.ts';

/** A frame's event and when the frame came, in ms of the day's clock. */
export interface Arrival {
  readonly id: string;
  readonly at: number;
}

export interface Watched {
  readonly arrivals: readonly Arrival[];
  /** Of the last frame. */
  readonly frameBytes: number;
}

const QUERY = `subscription { events(filter: { types: [STOCK_CHANGED] }) {
  id position cursor type name payloadVersion occurredAt subjectType subjectId subjectVersion changed actor requestId causedBy
  ... on StockChanged { sku stock by reason orderId }
} }`;

/** One WebSocket that notes when each event came, and that none was missing. */
export function createWatch() {
  let clock = setWallClock();
  let arrivals: Arrival[] = [];
  let position = 0;
  let frameBytes = 0;
  let fault: string | undefined;
  let wanted = 0;
  let complete = Promise.withResolvers<void>();

  function receive(text: string): void {
    const at = clock.now();
    const message = JSON.parse(text);
    if (message.type !== 'next' || message.payload.errors !== undefined) {
      fault ??= `expected an event, found ${text.slice(0, 300)}`;
      return;
    }
    const event = message.payload.data.events;
    if (position !== 0 && Number(event.position) !== position + 1)
      fault ??= `expected position ${position + 1}, found ${event.position}`;
    position = Number(event.position);
    frameBytes = text.length;
    arrivals.push({ id: event.id, at });
    if (arrivals.length === wanted) complete.resolve();
  }

  return {
    /** Subscribes; what is committed from a moment later on arrives. */
    async open({ url, key }: Target): Promise<void> {
      const socket = new WebSocket(url, 'graphql-transport-ws', { perMessageDeflate: false });
      await once(socket, 'open');
      socket.send(JSON.stringify({ type: 'connection_init', payload: { Authorization: `Bearer ${key}` } }));
      await once(socket, 'message');
      socket.on('message', (data) => receive(String(data)));
      socket.send(JSON.stringify({ id: 'watch', type: 'subscribe', payload: { query: QUERY } }));
    },
    begin(count: number): void {
      clock = setWallClock();
      arrivals = [];
      wanted = count;
      complete = Promise.withResolvers();
    },
    /** Resolves when as many events have come as `begin` has said. @throws Error if one was missing or repeated */
    async finish(): Promise<Watched> {
      await complete.promise;
      if (fault !== undefined) throw new Error(fault);
      if (Math.abs(clock.drift()) > MAX_DRIFT_MS)
        throw new Error(`the clock moved by ${clock.drift()} ms; run it again`);
      return { arrivals, frameBytes };
    },
  };
}

export type Watch = ReturnType<typeof createWatch>;

/** A clock that was set in the meantime makes latencies wrong. */
const MAX_DRIFT_MS = 0.5;

if (import.meta.main) serveMethods(createWatch());
