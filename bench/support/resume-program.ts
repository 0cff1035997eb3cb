import { once } from 'node:events';
import { WebSocket } from 'ws';
import { serveMethods } from '../../test/support/worker.ts';
import type { Target } from './client.ts';
import { digestEvents } from './event-digest.ts';

/** What one reader of the log has seen. */
export interface Reading {
  readonly seconds: number;
  /** Of all results, as text. */
  readonly bytes: number;
  /** Of `digestEvents`. */
  readonly digest: string;
}

export interface Resume {
  /** A cursor. */
  readonly after: string;
  /** Events behind it. */
  readonly count: number;
}

const QUERY = `subscription ($after: String) { events(after: $after, filter: { types: [STOCK_CHANGED] }) {
  id position cursor name occurredAt subjectId subjectVersion ... on StockChanged { sku stock }
} }`;

/** One WebSocket that resumes behind a cursor, again and again. */
export function createResume() {
  let socket: WebSocket | undefined;
  let resumed = 0;

  function connected(): WebSocket {
    if (socket === undefined) throw new Error('call open first');
    return socket;
  }

  return {
    async open({ url, key }: Target): Promise<void> {
      socket = new WebSocket(url, 'graphql-transport-ws', { perMessageDeflate: false });
      await once(socket, 'open');
      socket.send(JSON.stringify({ type: 'connection_init', payload: { Authorization: `Bearer ${key}` } }));
      await once(socket, 'message');
    },
    /** From the subscription to the last event, then ends it. @throws Error for anything but events, or a closed socket */
    async resume({ after, count }: Resume): Promise<Reading> {
      const id = `resume-${resumed++}`;
      const texts: string[] = [];
      const complete = Promise.withResolvers<void>();
      const receive = (data: unknown) => {
        if (texts.push(String(data)) === count) complete.resolve();
      };
      const fail = () => complete.reject(new Error('the socket was closed'));
      connected().on('message', receive).once('close', fail);
      const startedAt = performance.now();
      send(connected(), { id, type: 'subscribe', payload: { query: QUERY, variables: { after } } });
      await complete.promise;
      const seconds = (performance.now() - startedAt) / 1_000;
      connected().off('message', receive).off('close', fail);
      send(connected(), { id, type: 'complete' });
      const results = texts.map((text) => JSON.stringify(JSON.parse(text).payload));
      return { seconds, bytes: sum(texts.map((text) => text.length)), digest: digestEvents(results) };
    },
  };
}

export type ResumingClient = ReturnType<typeof createResume>;

function send(socket: WebSocket, message: object): void {
  socket.send(JSON.stringify(message));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

if (import.meta.main) serveMethods(createResume());
