import { type Backoff, createBackoff, pause } from './backoff.ts';
import { Connection, type ConnectionOptions } from './connection.ts';
import { createEmitter, type Emitter, type Listeners } from './emitter.ts';
import { STOPPED, WatchError } from './fault.ts';
import { type AttemptSink, addressOf, type Link } from './link.ts';

export interface SocketLinkOptions extends ConnectionOptions {
  /** Listeners, as graphql-ws takes them. */
  readonly on?: Listeners | undefined;
  readonly random?: (() => number) | undefined;
  /** How long a connection without operations is kept. @default 1_000 (ms) */
  readonly lingerMs?: number | undefined;
}

const LINGER_MS = 1_000;

/** One WebSocket for all operations, opened for the first one, and after a fault when the next try begins. */
export function createSocketLink(options: SocketLinkOptions): Link {
  requireUsable(options);
  const emitter = createEmitter(options.on);
  const backoff = createBackoff(options);
  const socket = new SharedSocket(options, { emitter, backoff });
  return {
    start(payload, sink) {
      const attempt = onceEnded(sink, socket.retain());
      let unsubscribe = () => {};
      const run = (connection: Connection) => {
        if (attempt.isOver()) return;
        sink.sent();
        sink.accepted();
        const end = (fault?: unknown) =>
          connection.fault === undefined ? attempt.end(fault) : attempt.end(connection.fault, socket.retryMs);
        unsubscribe = connection.client.subscribe<Record<string, unknown>>(payload, {
          next: (result) => void (attempt.isOver() || sink.next(result)),
          error: end,
          complete: () => end(),
        });
      };
      socket.standing().then(run, (fault: unknown) => attempt.end(fault, socket.retryMs));
      return () => {
        attempt.stop();
        unsubscribe();
      };
    },
    flowing: () => backoff.reset(),
    terminate: () => socket.terminate(),
    dispose: () => socket.dispose(),
    on: emitter.on,
  };
}

/** What no try will mend is told at once. @throws WatchError */
function requireUsable({ url, webSocketImpl = globalThis.WebSocket }: SocketLinkOptions): void {
  addressOf(url, 'ws');
  if (typeof webSocketImpl === 'function' && 'OPEN' in webSocketImpl) return;
  throw new WatchError(
    'BAD_INPUT',
    'there is no WebSocket class here: give one as "webSocketImpl", that of the package "ws"',
  );
}

/** Lets a try end once, and lets go of the socket then. */
function onceEnded(sink: AttemptSink, release: () => void) {
  let isOver = false;
  const stop = () => {
    if (!isOver) release();
    isOver = true;
  };
  return {
    isOver: () => isOver,
    stop,
    end(fault?: unknown, retryMs?: number) {
      if (isOver) return;
      stop();
      sink.end(fault, retryMs);
    },
  };
}

interface SocketDeps {
  readonly emitter: Emitter;
  readonly backoff: Backoff;
}

/**
 * The one WebSocket of a link. *Idle* until somebody retains it; *opening* and *standing* with a connection; *cooling* for
 * `retryMs` after one has failed; *idle* again when nobody has retained it for a while.
 */
class SharedSocket {
  /** The wait after the last fault. */
  retryMs = 0;
  readonly #options: SocketLinkOptions;
  readonly #deps: SocketDeps;
  readonly #stopping = new AbortController();
  #connection: Connection | undefined;
  #cooling: Promise<void> = Promise.resolve();
  #hasFailed = false;
  #holders = 0;
  #linger: ReturnType<typeof setTimeout> | undefined;

  constructor(options: SocketLinkOptions, deps: SocketDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Keeps it open until what this gives is called. */
  retain(): () => void {
    clearTimeout(this.#linger);
    this.#holders += 1;
    return () => {
      this.#holders -= 1;
      if (this.#holders > 0 || this.#connection === undefined) return;
      this.#linger = setTimeout(() => this.#connection?.close(), this.#options.lingerMs ?? LINGER_MS);
    };
  }

  /** The connection, as soon as it stands. @throws what ended it before */
  async standing(): Promise<Connection> {
    await this.#cooling;
    if (this.#stopping.signal.aborted || this.#holders === 0) throw STOPPED; // nobody waits any more
    this.#connection ??= this.#open();
    const connection = this.#connection;
    await connection.standing;
    if (connection.fault !== undefined) throw connection.fault; // between the acknowledgement and this turn
    return connection;
  }

  #open(): Connection {
    const { emitter, backoff } = this.#deps;
    let forget = () => {};
    const connection = new Connection(this.#options, {
      emitter,
      isRetry: this.#hasFailed,
      ended: (fault) => {
        forget();
        this.#connection = undefined;
        this.#hasFailed = fault !== STOPPED;
        this.retryMs = fault === STOPPED ? 0 : backoff.next();
        this.#cooling = pause(this.retryMs, this.#stopping.signal);
      },
    });
    connection.standing.then(
      () => {
        if (connection.fault === undefined) forget = backoff.lasting();
      },
      () => {}, // `ended` has been told
    );
    return connection;
  }

  terminate(): void {
    this.#connection?.terminate();
  }

  /** Closes it for good. */
  dispose(): void {
    this.#stopping.abort();
    clearTimeout(this.#linger);
    this.#connection?.close();
  }
}
