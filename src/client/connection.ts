import { type Client, createClient, type EventListener } from 'graphql-ws';
import type { Emitter, Listeners } from './emitter.ts';
import { type Fault, STOPPED } from './fault.ts';
import { addressOf, authorizationBy, type Key } from './link.ts';
import { createRefresh } from './refresh.ts';

export interface ConnectionOptions {
  readonly url: string;
  readonly key: Key;
  /** The WebSocket class. @default the global one, which browsers and Node have */
  readonly webSocketImpl?: unknown;
  /** A ping goes out so often; half as long after it an unanswered one has the connection for dead. @default 10_000 (ms) */
  readonly pingEveryMs?: number | undefined;
}

export interface ConnectionEvents {
  readonly emitter: Emitter;
  /** Whether it follows one that failed; told to listeners. */
  readonly isRetry: boolean;
  /** It stands no more, or never did. Called once. */
  ended(fault: Fault): void;
}

/** For the key, the connection and its acknowledgement together. */
const CONNECT_WITHIN_MS = 10_000;
const PING_EVERY_MS = 10_000;

/**
 * One WebSocket, made at once and never again: what ends it ends its operations. *Asking* for the key; *connecting* by a client
 * of graphql-ws; *standing* once it is acknowledged, while pings are answered; *over* by its first fault or its closing.
 */
export class Connection {
  /** Resolves when it is acknowledged; rejects with what ended it before. */
  readonly standing: Promise<void>;
  readonly #options: ConnectionOptions;
  readonly #events: ConnectionEvents;
  readonly #stands = Promise.withResolvers<void>();
  readonly #refresh;
  #client: Client | undefined;
  #isStanding = false;
  #fault: Fault | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: ConnectionOptions, events: ConnectionEvents) {
    this.#options = options;
    this.#events = events;
    this.#refresh = createRefresh(options);
    this.standing = this.#stands.promise;
    this.standing.catch(() => {}); // told by `ended` too
    this.#expect(CONNECT_WITHIN_MS);
    // before there is a socket, which the server would soon close for its silence
    authorizationBy(options.key)
      .then((authorization) => {
        if (this.#fault === undefined) this.#client = this.#connect(authorization);
      })
      .catch((error: unknown) => this.#end(error));
  }

  /** What has ended it; undefined while it stands or is being made. */
  get fault(): Fault | undefined {
    return this.#fault;
  }

  /** To subscribe by, once it stands. */
  get client(): Client {
    if (this.#client === undefined) throw new Error('the connection does not stand yet');
    return this.#client;
  }

  /** Breaks it, in whatever state it is, as a fault of the network would. */
  terminate(): void {
    if (this.#client === undefined) this.#end(new Error('terminated'));
    else this.#client.terminate();
  }

  /** Closes it, in whatever state it is. Twice is harmless. */
  close(): void {
    // `dispose`, in `#end`, says a proper goodbye but waits for a connection that may never come; `terminate` doesn't
    const wasStanding = this.#isStanding;
    this.#end(STOPPED);
    if (!wasStanding) this.#client?.terminate();
  }

  #connect(authorization: string): Client {
    const { url, webSocketImpl = globalThis.WebSocket, pingEveryMs = PING_EVERY_MS } = this.#options;
    return createClient({
      url: addressOf(url, 'ws'),
      connectionParams: { authorization },
      webSocketImpl: hearErrors(webSocketImpl),
      retryAttempts: 0,
      // opened at once and kept between operations; a lazy one's closing timer would hold a finished process open
      lazy: false,
      onNonLazyError: () => {}, // each operation is told itself
      keepAlive: pingEveryMs,
      on: this.#listeners(pingEveryMs),
    });
  }

  #listeners(pingEveryMs: number): Listeners {
    const { emitter, isRetry } = this.#events;
    return {
      connecting: () => emitter.emit('connecting', isRetry),
      opened: (socket) => emitter.emit('opened', socket),
      connected: (...args) => this.#acknowledge(...args),
      message: (message) => emitter.emit('message', message),
      ping: (isReceived, payload) => {
        // one that is left unanswered is gone, though no one said so: a sleeping laptop, a dead router
        if (!isReceived) this.#expect(pingEveryMs / 2);
        emitter.emit('ping', isReceived, payload);
      },
      pong: (isReceived, payload) => {
        if (isReceived) clearTimeout(this.#timer);
        if (isReceived) this.#refresh.ponged(payload);
        emitter.emit('pong', isReceived, payload);
      },
      closed: (event) => {
        this.#end(event);
        emitter.emit('closed', event);
      },
      error: (error) => {
        this.#end(error);
        emitter.emit('error', error);
      },
    };
  }

  #acknowledge(...[socket, payload]: Parameters<EventListener<'connected'>>): void {
    if (this.#fault !== undefined) return;
    clearTimeout(this.#timer);
    this.#isStanding = true;
    // graphql-ws hands over the WebSocket, untyped for want of a type that all platforms share
    const opened = socket as { send(text: string): void };
    this.#refresh.acknowledged(payload, (message) => opened.send(JSON.stringify(message)));
    this.#events.emitter.emit('connected', socket, payload, this.#events.isRetry);
    this.#stands.resolve();
  }

  #expect(ms: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.terminate(), ms);
  }

  #end(fault: Fault): void {
    if (this.#fault !== undefined) return;
    this.#fault = fault;
    this.#isStanding = false;
    clearTimeout(this.#timer);
    this.#refresh.stop();
    // or a close with 1000 would make it connect again
    Promise.resolve(this.#client?.dispose()).catch(() => {});
    this.#events.ended(fault);
    this.#stands.reject(fault);
  }
}

/**
 * graphql-ws stops listening to a socket that it terminates; the class of the package `ws` throws an error that nobody hears.
 */
function hearErrors(impl: unknown): unknown {
  // the caller's word, checked by graphql-ws: `unknown` because the classes of browsers, Node and ws differ in their types
  const Base = impl as typeof globalThis.WebSocket;
  return class extends Base {
    constructor(url: string, protocols?: string | string[]) {
      super(url, protocols);
      this.addEventListener('error', () => {});
    }
  };
}
