import { type Connection, openConnection } from './connection.ts';
import { ENDED, explain, type Fault, STOPPED, WatchError } from './fault.ts';

export { WatchError };

export interface WatchOptions {
  /** The server's address: `https://api.example`, with or without `/graphql`; http becomes ws. */
  readonly url: string;
  /** An API key, or what gives one before each connection: a short-lived token, for instance. */
  readonly key: string | (() => string | Promise<string>);
  /**
   * One subscription that declares `$after: String` and hands it to its field:
   * `subscription ($after: String) { orderPlaced(after: $after) { id } }`. The helper sets the variable.
   */
  readonly query: string;
  /** The document's other variables. */
  readonly variables?: Readonly<Record<string, unknown>>;
  /** Where to begin: behind this cursor. @default the log's head when the first connection stands */
  readonly after?: string | undefined;
  /**
   * Called with each event, in order, one at a time: a promise is awaited before the next event. The next connection goes on
   * behind the last event that was handed over. Throwing, or rejecting, ends the watch with that error.
   */
  readonly onEvent: (event: WatchedEvent) => void | Promise<void>;
  /** Told of each change of the connection, as it is seen. Must not throw. */
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

/**
 * - *connecting*: a connection is being made;
 * - *connected*: it stands, and whatever happens from now on will come;
 * - *interrupted*: it is gone, or could not be made, and will be tried again after `retryMs`.
 */
export type WatchState =
  | { readonly state: 'connecting' }
  | { readonly state: 'connected' }
  | { readonly state: 'interrupted'; readonly reason: string; readonly retryMs: number };

/** Wait at most BASE_MS, then twice as long each time up to CAP_MS, with full jitter. */
const BASE_MS = 250;
const CAP_MS = 15_000;
/** Events that wait for `onEvent`. A slower one costs a reconnect, never memory without end or an event. */
const MAX_WAITING = 1_000;

/**
 * Watches a subscription until the signal aborts: reconnects for ever, behind the last event handed over, so that none is lost
 * or repeated. (Stock clients subscribe again with the variables they began with.) Resolves on abort.
 *
 * Does not outlast the retention: a filter that lets nothing through for as long meets `CURSOR_EXPIRED` at a reconnect. Keeps
 * nothing over a restart of your program: store `cursor` for that, and pass it as `after`.
 *
 * @throws WatchError with the code `INVALID_CURSOR`, `CURSOR_EXPIRED`, `EPOCH_CHANGED`, `UNAUTHENTICATED` (after the third
 * refusal in a row), `FORBIDDEN`, `BAD_INPUT`, `GRAPHQL_VALIDATION_FAILED` …, or what `onEvent` threw
 */
export async function watch(options: WatchOptions): Promise<void> {
  const { signal = new AbortController().signal, onState = () => {}, random = Math.random } = options;
  if (!/\$after\s*:\s*String\b/.test(options.query)) {
    throw new WatchError('BAD_INPUT', 'the document must declare $after: String and give it to its field as "after"');
  }
  const progress: Progress = { cursor: options.after, failures: 0, refusedKeys: 0 };
  while (!signal.aborted) {
    onState({ state: 'connecting' });
    const reason = await follow({ ...options, onState, signal }, progress);
    if (signal.aborted) return;
    const retryMs = Math.floor(random() * Math.min(CAP_MS, BASE_MS * 2 ** Math.min(progress.failures, 30)));
    progress.failures += 1;
    onState({ state: 'interrupted', reason, retryMs });
    await pause(retryMs, signal);
  }
}

/** What one connection hands to the next. */
interface Progress {
  cursor: string | undefined;
  /** Connections in a row that brought no event and did not last. */
  failures: number;
  refusedKeys: number;
}

type Following = WatchOptions & Required<Pick<WatchOptions, 'onState' | 'signal'>>;

/** One connection, from its opening to its end. @returns why it ended @throws WatchError, or what `onEvent` threw */
async function follow(options: Following, progress: Progress): Promise<string> {
  const { signal, onState } = options;
  const lasting = setTimeout(() => {
    progress.failures = 0;
  }, CAP_MS);
  const connection = openConnection(options, () => {
    progress.refusedKeys = 0;
    if (progress.cursor !== undefined) onState({ state: 'connected' });
  });
  try {
    if (progress.cursor === undefined) {
      // without it, what happens between a first connection that breaks and the second would be lost
      const head = await readHead(connection, signal);
      if ('fault' in head) return explain(head.fault, progress);
      progress.cursor = head.cursor;
      onState({ state: 'connected' });
    }
    return explain(await deliver(connection, options, progress), progress);
  } finally {
    clearTimeout(lasting);
    connection.close();
  }
}

async function readHead({ client }: Connection, signal: AbortSignal): Promise<{ cursor: string } | { fault: Fault }> {
  const { promise, resolve } = Promise.withResolvers<{ cursor: string } | { fault: Fault }>();
  const stop = () => resolve({ fault: STOPPED });
  signal.addEventListener('abort', stop, { once: true });
  client.subscribe<{ head: string }>(
    { query: '{ head }' },
    {
      next: ({ data, errors }) => resolve(data ? { cursor: data.head } : { fault: errors }),
      error: (fault) => resolve({ fault }),
      complete: () => resolve({ fault: ENDED }),
    },
  );
  return promise.finally(() => signal.removeEventListener('abort', stop));
}

/** An execution's result, as it comes over the wire. */
interface Result {
  readonly data?: unknown;
  readonly errors?: unknown;
  readonly extensions?: unknown;
}

/** Hands events over one by one. @returns why there are no more @throws WatchError, or what `onEvent` threw */
async function deliver({ client }: Connection, options: Following, progress: Progress): Promise<Fault> {
  const { query, variables, onEvent, signal } = options;
  const waiting: Result[] = [];
  let fault: Fault;
  let wake = () => {};
  const end = (reason: Fault) => {
    fault ??= reason;
    wake();
  };
  const unsubscribe = client.subscribe(
    { query, variables: { ...variables, after: progress.cursor } },
    {
      next(result) {
        waiting.push(result);
        if (waiting.length <= MAX_WAITING) return wake();
        unsubscribe();
        end(new Error(`onEvent is slower than events come: ${MAX_WAITING} wait`));
      },
      error: end,
      complete: () => end(ENDED),
    },
  );
  const stop = () => end(STOPPED);
  signal.addEventListener('abort', stop, { once: true });
  try {
    while (!signal.aborted) {
      const result = waiting.shift();
      if (result !== undefined) await handOver(result, onEvent, progress);
      else if (fault !== undefined) break;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
    return fault;
  } finally {
    signal.removeEventListener('abort', stop);
    unsubscribe();
  }
}

async function handOver(
  { data, errors, extensions }: Result,
  onEvent: WatchOptions['onEvent'],
  progress: Progress,
): Promise<void> {
  // whatever it is, reading a name of it is safe
  const cursor = (extensions as { readonly cursor?: unknown } | null | undefined)?.cursor;
  if (typeof cursor !== 'string') throw new WatchError('BAD_INPUT', 'the server sends no cursors: is it Fanfare?');
  await onEvent({
    data: (data ?? null) as WatchedEvent['data'], // a result's data is an object or null, says GraphQL
    ...(errors === undefined ? {} : { errors: errors as NonNullable<WatchedEvent['errors']> }), // as JSON, not classes
    cursor,
  });
  progress.cursor = cursor;
  progress.failures = 0;
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const finish = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener('abort', finish, { once: true });
  });
}
