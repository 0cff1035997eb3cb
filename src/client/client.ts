import type { Client, FormattedExecutionResult, Sink, SubscribePayload } from 'graphql-ws';
import { openCall } from './call.ts';
import type { Listeners } from './emitter.ts';
import { toSinkError } from './fault.ts';
import { iterateOver } from './iterate.ts';
import type { Key, Link } from './link.ts';
import { readShape } from './operation.ts';
import { createSocketLink } from './socket-link.ts';
import { createSseLink } from './sse-link.ts';
import { openSubscription, type StreamState } from './subscription.ts';
import { WatchError, type WatchedEvent, type WatchOptions, type WatchState, watch } from './watch.ts';

export { type StreamState, WatchError, type WatchedEvent, type WatchOptions, type WatchState, watch };

export interface ClientOptions {
  /** The server's address: `https://api.example`, with or without `/graphql`; `ws:` and `wss:` will do too. */
  readonly url: string;
  /**
   * An API key, or what gives one: it is asked before each connection, and over a WebSocket shortly before the key of an open
   * one expires, which is then refreshed in place.
   */
  readonly key: Key;
  /** Listeners from the beginning on, as graphql-ws takes them. */
  readonly on?: Listeners;
  /** Told of each change of `state`. Must not throw. */
  readonly onState?: (state: ClientState) => void;
  /** For a query or mutation, from the call to the answer, connecting included. @default 30_000 (ms) */
  readonly answerWithinMs?: number;
  /** A number in [0, 1), for the waits. @default Math.random */
  readonly random?: () => number;
}

export interface SocketClientOptions extends ClientOptions {
  /** The WebSocket class. @default the global one, which browsers and Node have */
  readonly webSocketImpl?: unknown;
  /** A ping goes out so often; half as long after it an unanswered one has the connection for dead. @default 10_000 (ms) */
  readonly pingEveryMs?: number;
  /** How long a connection without operations is kept. @default 1_000 (ms) */
  readonly lingerMs?: number;
}

export interface SseClientOptions extends ClientOptions {
  /** @default the global one, which browsers and Node have */
  readonly fetch?: typeof globalThis.fetch;
  /** A stream that brings nothing for so long is dead: the server sends a comment every 12 s. @default 30_000 (ms) */
  readonly silenceMs?: number;
}

/** How a client's subscriptions stand: as the one that is worst off. *idle* without any. */
export type ClientState = 'idle' | StreamState['state'];

export interface SubscribeOptions {
  /** Begin behind this cursor, whatever the document says. @default what it says, else the log's head */
  readonly after?: string;
  /** Told of each change of this subscription. Must not throw. */
  readonly onState?: (state: StreamState) => void;
}

/**
 * The `Client` of graphql-ws, which Apollo's `GraphQLWsLink` and urql take as it is.
 *
 * - A subscription goes on over broken connections behind the last event or checkpoint that came: each event once, in order.
 *   It ends where trying again is of no use, by `sink.error` with GraphQL errors whose `extensions.code` says why, and by
 *   `sink.complete` only if it is left. `next` may give a promise: the next event waits for it, at most 1,000 others with it.
 * - A query or mutation is sent once; a mutation with `extensions.idempotencyKey` until it is answered.
 *
 * Keeps nothing over a restart of your program: store `extensions.cursor` for that.
 */
export interface FanfareClient extends Client {
  readonly state: ClientState;
  /** Told of each change of `state`. @returns what ends it */
  onState(listener: (state: ClientState) => void): () => void;
  subscribe<Data = Record<string, unknown>, Extensions = unknown>(
    payload: SubscribePayload,
    sink: Sink<FormattedExecutionResult<Data, Extensions>>,
    options?: SubscribeOptions,
  ): () => void;
  /** Takes one result at a time; fails with a `WatchError`. */
  iterate<Data = Record<string, unknown>, Extensions = unknown>(
    payload: SubscribePayload,
    options?: SubscribeOptions,
  ): AsyncIterableIterator<FormattedExecutionResult<Data, Extensions>>;
  /** Completes all operations and closes what is open. What is asked of it later fails. */
  dispose(): Promise<void>;
}

/**
 * Builds a client over one WebSocket, which is opened for the first operation. The server takes 100 operations on it; more are
 * tried again until there is room.
 * @throws WatchError BAD_INPUT for a wrong address, or where there is no WebSocket class
 */
export function createFanfareClient(options: SocketClientOptions): FanfareClient {
  return createClientOver(createSocketLink(options), options);
}

/**
 * Builds a client over server-sent events, a request for each operation, for where WebSockets are blocked. Over HTTP/1.1 a
 * browser opens at most six at once.
 * @throws WatchError BAD_INPUT for a wrong address
 */
export function createFanfareSseClient(options: SseClientOptions): FanfareClient {
  return createClientOver(createSseLink(options), options);
}

function createClientOver(link: Link, options: ClientOptions): FanfareClient {
  const states = createStates(options.onState);
  const open = new Set<() => void>();
  let isDisposed = false;

  function begin(payload: SubscribePayload, sink: Sink<never>, subscribeOptions: SubscribeOptions): () => void {
    if (isDisposed) throw new WatchError('BAD_INPUT', 'the client is disposed; create another');
    const shape = readShape(payload);
    const { kind } = shape;
    // the caller's word for its document, as in graphql-ws
    const next = (result: unknown) => sink.next(result as never) as void | Promise<void>;
    const common = { payload, random: options.random };
    const state = states.add(kind === 'subscription', subscribeOptions.onState);
    const { stop, ended } =
      kind === 'subscription'
        ? openSubscription(link, {
            ...common,
            shape,
            after: subscribeOptions.after,
            onEvent: next,
            onState: state.change,
          })
        : openCall(link, { ...common, kind, answerWithinMs: options.answerWithinMs, onResult: next });
    open.add(stop);
    const forget = () => {
      open.delete(stop);
      state.remove();
    };
    ended.then(
      () => {
        forget();
        sink.complete();
      },
      (error: unknown) => {
        forget();
        sink.error(toSinkError(error));
      },
    );
    return stop;
  }

  return {
    on: link.on,
    get state() {
      return states.current();
    },
    onState: states.listen,
    subscribe: (payload, sink, subscribeOptions = {}) => begin(payload, sink, subscribeOptions),
    iterate: (payload, subscribeOptions = {}) =>
      iterateOver((sink) => begin(payload, sink, subscribeOptions), toWatchError),
    async dispose() {
      isDisposed = true;
      for (const stop of open) stop();
      link.dispose();
    },
    terminate: () => link.terminate(),
  };
}

/** For iterators, which throw: what a sink is told, as an Error. */
function toWatchError(error: unknown): unknown {
  if (!Array.isArray(error)) return error;
  // what `toSinkError` has made
  const [{ message, extensions }] = error as [
    { message: string; extensions: Record<string, unknown> & { code: string } },
  ];
  const { code, ...details } = extensions;
  return new WatchError(code, message, details);
}

/** From the worst to the best. */
const ORDER: readonly ClientState[] = ['interrupted', 'connecting', 'catching up', 'live'];

function createStates(first: ((state: ClientState) => void) | undefined) {
  const streams = new Map<object, StreamState['state']>();
  const listeners = new Set<(state: ClientState) => void>(first === undefined ? [] : [first]);
  let told: ClientState = 'idle';
  const current = (): ClientState => {
    const all = new Set<ClientState>(streams.values());
    return ORDER.find((state) => all.has(state)) ?? 'idle';
  };
  const tell = () => {
    const state = current();
    if (state === told) return;
    told = state;
    for (const listener of listeners) listener(state);
  };
  return {
    current,
    listen(listener: (state: ClientState) => void) {
      const mine = (state: ClientState) => listener(state); // its own, so that one may be given twice
      listeners.add(mine);
      return () => void listeners.delete(mine);
    },
    /** Counts a subscription; a call has no state. */
    add(isCounted: boolean, onState: (state: StreamState) => void = () => {}) {
      const stream = {};
      return {
        change(state: StreamState) {
          if (isCounted) streams.set(stream, state.state);
          onState(state);
          tell();
        },
        remove() {
          if (streams.delete(stream)) tell();
        },
      };
    },
  };
}
