import type { Client, FormattedExecutionResult, SubscribePayload } from 'graphql-ws';
import { type Fault, WatchError } from './fault.ts';

/** One result, as it comes over the wire. */
export type Result = FormattedExecutionResult<Record<string, unknown>, unknown>;

/** An API key, or what gives one before each connection: a short-lived token, for instance. */
export type Key = string | (() => string | Promise<string>);

/** What one try at an operation meets, in this order. */
export interface AttemptSink {
  /** From now on the server may have it. */
  sent(): void;
  /** The server takes it: the connection stands. */
  accepted(): void;
  next(result: Result): void;
  /**
   * It is over, and nothing more is called. Without `fault` the server has completed it. `retryMs` is the wait where the
   * connection is at fault, which others share; else the operation has to find its own.
   */
  end(fault?: Fault, retryMs?: number): void;
}

/** A way to the server. It does not try again by itself: each operation knows what it may repeat, and from where. */
export interface Link {
  /** Begins one try. Stop it by what this gives, after which nothing is called; twice, or after its end, is harmless. */
  start(payload: SubscribePayload, sink: AttemptSink): () => void;
  /** What was asked for comes: the next fault is the first again. */
  flowing(): void;
  /** Breaks what stands, as a fault of the network would. */
  terminate(): void;
  /** Lets go of all that is open. Operations have been stopped before. */
  dispose(): void;
  readonly on: Client['on'];
}

/** The bearer's header, with the key of the moment. @throws whatever the key's function throws */
export async function authorizationBy(key: Key): Promise<string> {
  return `Bearer ${typeof key === 'string' ? key : await key()}`;
}

/**
 * `wss://host` and `https://host/graphql` alike become the address of a way: `http` or `ws`.
 * @throws WatchError BAD_INPUT for anything else
 */
export function addressOf(text: string, way: 'http' | 'ws'): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^(http|ws)s?:$/.test(url.protocol)) {
    throw new WatchError(
      'BAD_INPUT',
      `expected a URL like "https://api.example/graphql", found "${text.slice(0, 100)}"`,
    );
  }
  url.protocol = url.protocol.replace(/^(http|ws)/, way);
  if (url.pathname === '/') url.pathname = '/graphql';
  return url.href;
}
