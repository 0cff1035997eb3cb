import { setTimeout as wait } from 'node:timers/promises';
import { createClient as createSseClient } from 'graphql-sse';
import { createClient as createWsClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { watch } from '../../../src/client/watch.ts';
import type { SeenEvent } from './compare.ts';

/** A client that listens through all outages. */
export interface Stream {
  /** In the order of arrival. */
  readonly events: readonly SeenEvent[];
  /** Tries to connect again. */
  readonly reconnects: number;
  /** What ended the last connection: says why nothing more comes. */
  readonly lastFault: string | undefined;
  close(): Promise<void>;
}

export interface StreamOptions {
  readonly url: string;
  readonly wsUrl: string;
  readonly key: string;
  /** Declares `$after`, asks for `events`. */
  readonly query: string;
  readonly after: string;
}

/** By the helper for front-ends, which resumes by itself. */
export function openWebSocketStream({ url, key, query, after }: StreamOptions): Stream {
  const stop = new AbortController();
  const stream = { events: [] as SeenEvent[], reconnects: 0, lastFault: undefined as string | undefined };
  const ended = watch({
    url,
    key,
    query,
    after,
    signal: stop.signal,
    onEvent: (event) => void stream.events.push(readEvent(event)),
    onState(state) {
      if (state.state !== 'interrupted') return;
      stream.reconnects += 1;
      stream.lastFault = state.reason;
    },
  });
  const told = ended.catch((error: unknown) => {
    stream.lastFault = `given up: ${error}`;
  });
  return Object.assign(stream, {
    close: () => {
      stop.abort();
      return told;
    },
  });
}

/** By the stock client, each connection behind the last cursor it was given. */
export function openSseStream({ url, key, query, after }: StreamOptions): Stream {
  const headers = { authorization: `Bearer ${key}` };
  return repeat(after, (cursor) => {
    const client = createSseClient({ url, headers, retryAttempts: 0 });
    return { results: client.iterate({ query, variables: { after: cursor } }), end: () => client.dispose() };
  });
}

/** The negative control: a stock client that subscribes again with what it began with, which is no cursor. */
export function openNaiveWebSocketStream({ wsUrl, key, query }: Omit<StreamOptions, 'after'>): Stream {
  return repeat(undefined, () => {
    const connectionParams = { authorization: `Bearer ${key}` };
    const client = createWsClient({ url: wsUrl, connectionParams, webSocketImpl: WebSocket, retryAttempts: 0 });
    return { results: client.iterate({ query }), end: () => void client.dispose() };
  });
}

interface Subscription {
  readonly results: AsyncIterableIterator<Result>;
  end(): void;
}

interface Result {
  readonly data?: unknown;
  readonly errors?: unknown;
  readonly extensions?: unknown;
}

const RETRY_MS = 100;

/** Subscribes again and again, each time behind the cursor of the last event. */
function repeat(first: string | undefined, subscribe: (after: string | undefined) => Subscription): Stream {
  const stop = new AbortController();
  const stream = { events: [] as SeenEvent[], reconnects: 0, lastFault: undefined as string | undefined };
  let after = first;

  async function follow({ results, end }: Subscription): Promise<void> {
    stop.signal.addEventListener('abort', end, { once: true });
    try {
      for await (const result of results) {
        const event = readEvent(result);
        stream.events.push(event);
        after = event.cursor;
      }
      stream.lastFault = 'the server ended the stream';
    } catch (error) {
      stream.lastFault = describe(error);
    } finally {
      stop.signal.removeEventListener('abort', end);
      end();
    }
  }

  async function run(): Promise<void> {
    while (!stop.signal.aborted) {
      await follow(subscribe(after));
      if (stop.signal.aborted) return;
      stream.reconnects += 1;
      await wait(RETRY_MS, undefined, { signal: stop.signal }).catch(() => {}); // the stop
    }
  }

  const ended = run();
  return Object.assign(stream, {
    close: () => {
      stop.abort();
      return ended;
    },
  });
}

/** @throws Error for a result without event: the connection begins anew behind the one before */
function readEvent({ data, errors }: Result): SeenEvent {
  // what the document asks for
  const { events } = (data ?? {}) as { readonly events?: SeenEvent };
  if (events === undefined || errors !== undefined) throw new Error(`no event: ${JSON.stringify(errors)}`);
  return events;
}

/** graphql-ws rejects with a close event or a list of errors. */
function describe(fault: unknown): string {
  if (fault instanceof Error) return fault.message;
  if (typeof fault === 'object' && fault !== null && 'code' in fault) return `closed with ${fault.code}`;
  return JSON.stringify(fault);
}
