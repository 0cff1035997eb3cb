import { WatchError } from './fault.ts';
import type { Key } from './link.ts';
import { readShape } from './operation.ts';
import { createSocketLink } from './socket-link.ts';
import { openSubscription, type StreamState } from './subscription.ts';

export { WatchError };

export interface WatchOptions {
  /** The server's address: `https://api.example`, with or without `/graphql`; http becomes ws. */
  readonly url: string;
  /** An API key, or what gives one: asked before each connection, and shortly before the key of an open one expires. */
  readonly key: Key;
  /** One subscription: `subscription { orderPlaced { id } }`. */
  readonly query: string;
  /** The document's variables. */
  readonly variables?: Readonly<Record<string, unknown>>;
  /** Where to begin: behind this cursor. @default the log's head when the first connection stands */
  readonly after?: string | undefined;
  /**
   * Called with each event, in order, one at a time: a promise is awaited before the next event. The next connection goes on
   * behind the last event that came. Throwing, or rejecting, ends the watch with that error.
   */
  readonly onEvent: (event: WatchedEvent) => void | Promise<void>;
  /** Told of each change, as it is seen. Must not throw. */
  readonly onState?: (state: WatchState) => void;
  /** Aborting it ends the watch, which then resolves. */
  readonly signal?: AbortSignal;
  /** The WebSocket class. @default the global one, which browsers and Node have */
  readonly webSocketImpl?: unknown;
  /** A number in [0, 1), for the waits. @default Math.random */
  readonly random?: () => number;
}

/** One result of the subscription. */
export interface WatchedEvent {
  /** The document's result: `{ orderPlaced: { … } }`; null where `errors` say why. */
  readonly data: Readonly<Record<string, unknown>> | null;
  /** Fields that could not be read. @default absent */
  readonly errors?: readonly { readonly message: string; readonly extensions?: Record<string, unknown> }[];
  /** Where to go on behind this event: keep it with what you made of the event. */
  readonly cursor: string;
}

export type WatchState = StreamState;

/**
 * Watches one subscription over a WebSocket of its own until the signal aborts: reconnects for ever, behind the last event or
 * checkpoint that came, so that none is lost or repeated. (Stock clients subscribe again with the variables they began with.)
 * Resolves on abort.
 *
 * Keeps nothing over a restart of your program: store `cursor` for that, and pass it as `after`.
 *
 * @throws WatchError with the code `INVALID_CURSOR`, `CURSOR_EXPIRED`, `EPOCH_CHANGED`, `UNAUTHENTICATED` (after the third
 * refusal in a row), `FORBIDDEN`, `BAD_INPUT`, `GRAPHQL_VALIDATION_FAILED` …, or what `onEvent` threw
 */
export async function watch(options: WatchOptions): Promise<void> {
  const { signal = new AbortController().signal, query, variables, after, onEvent, onState = () => {} } = options;
  const payload = { query, variables: { ...variables } };
  const shape = readShape(payload);
  if (shape.kind !== 'subscription') throw new WatchError('BAD_INPUT', 'expected one subscription in "query"');
  if (signal.aborted) return;
  const link = createSocketLink(options);
  const { stop, ended } = openSubscription(link, {
    ...{ payload, shape, after, onState, random: options.random },
    onEvent: ({ data = null, errors }, cursor) =>
      onEvent({
        data,
        ...(errors === undefined ? {} : { errors: errors as NonNullable<WatchedEvent['errors']> }),
        cursor,
      }),
  });
  signal.addEventListener('abort', stop, { once: true });
  try {
    await ended;
  } finally {
    signal.removeEventListener('abort', stop);
    link.dispose();
  }
}
