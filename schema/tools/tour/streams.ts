import { createClient } from 'graphql-sse';
import { watch } from '#client';
import { type Server, ToolError } from '../command-line.ts';
import type { Board, ShownEvent, Way } from './board.ts';

/** What is asked for on every way, and where to begin. */
export interface Interest {
  readonly query: string;
  readonly variables: Readonly<Record<string, unknown>>;
  /** A cursor. */
  readonly after: string;
}

export interface StreamOptions {
  readonly server: Server;
  readonly interest: Interest;
  readonly board: Board;
  /** Aborting it ends the wait for the connection. */
  readonly signal: AbortSignal;
}

/** A stream that stands. */
export interface Stream {
  close(): Promise<void>;
}

const CONNECT_WITHIN_MS = 15_000;

/** Watches over WebSocket by the front-end helper. @throws ToolError if it can't */
export async function openWebSocket({ server, interest, board, signal }: StreamOptions): Promise<Stream> {
  const stopping = new AbortController();
  const connected = createConnection('WebSocket', { server, signal });
  const watching = watch({
    ...server,
    ...interest,
    signal: stopping.signal,
    onState: (state) => {
      if (state.state === 'live') connected.resolve();
      if (state.state === 'interrupted') connected.reason = state.reason;
    },
    onEvent: ({ data, errors }) => take(board, 'WebSocket', { data, errors }),
  }).catch((error: unknown) => connected.fail(error, board));
  await connected.wait().catch((error: unknown) => {
    stopping.abort();
    throw error;
  });
  return {
    async close() {
      stopping.abort();
      await watching;
    },
  };
}

/** Watches over server-sent events by a stock client. @throws ToolError if it can't */
export async function openSse({ server, interest, board, signal }: StreamOptions): Promise<Stream> {
  const { query, variables, after } = interest;
  const connected = createConnection('SSE', { server, signal });
  const client = createClient({
    url: server.url,
    headers: { authorization: `Bearer ${server.key}` },
    retryAttempts: 0,
    on: { connected: () => connected.resolve() },
  });
  client.subscribe<{ readonly events: ShownEvent }>(
    { query, variables: { ...variables, after } },
    {
      next: ({ data, errors }) => take(board, 'SSE', { data, errors }),
      error: (error) => connected.fail(error, board),
      complete: () => {},
    },
  );
  await connected.wait().catch((error: unknown) => {
    client.dispose();
    throw error;
  });
  return { close: async () => client.dispose() };
}

/** Waits for a stream to stand, and tells of its end on the board. */
function createConnection(way: Way, { server, signal }: Pick<StreamOptions, 'server' | 'signal'>) {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  signal.addEventListener('abort', () => reject(new ToolError('stopped')), { once: true });
  promise.catch(() => {}); // told by `wait`, or by the board
  return {
    /** Why there is none yet. */
    reason: 'no answer',
    resolve,
    fail(error: unknown, board: Board): void {
      const fault = new ToolError(`${way}: ${error instanceof Error ? error.message : JSON.stringify(error)}`);
      reject(fault);
      board.fail(fault);
    },
    async wait(): Promise<void> {
      const timer = setTimeout(() => {
        reject(
          new ToolError(`${way} to ${server.url} did not stand within ${CONNECT_WITHIN_MS / 1_000} s: ${this.reason}`),
        );
      }, CONNECT_WITHIN_MS);
      await promise.finally(() => clearTimeout(timer));
    },
  };
}

interface StreamResult {
  // what the document selects: one event under the name of its root field
  readonly data?: unknown;
  readonly errors?: unknown;
}

function take(board: Board, way: Way, { data, errors }: StreamResult): void {
  const event = (data as { readonly events?: ShownEvent } | null | undefined)?.events;
  if (event !== undefined && errors === undefined) board.arrived(way, event);
  else board.fail(new ToolError(`${way}: an event came with errors: ${JSON.stringify(errors)}`));
}
