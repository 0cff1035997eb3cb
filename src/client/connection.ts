import { type Client, createClient } from 'graphql-ws';

export interface ConnectionOptions {
  readonly url: string;
  readonly key: string | (() => string | Promise<string>);
  readonly webSocketImpl?: unknown;
}

/** One WebSocket, made at once and never again. */
export interface Connection {
  readonly client: Client;
  /** Closes it, in whatever state it is. Twice is harmless. */
  close(): void;
}

/** For the connection and its acknowledgement together. */
const CONNECT_WITHIN_MS = 10_000;
const PING_EVERY_MS = 10_000;
/** A connection that leaves a ping unanswered for as long is gone, though no one said so: a sleeping laptop, a dead router. */
const PONG_WITHIN_MS = 5_000;

/** Begins a connection that does not retry: what ends it ends its operations. `onAcknowledged` is called at most once. */
export function openConnection(options: ConnectionOptions, onAcknowledged: () => void): Connection {
  const { url, key, webSocketImpl = globalThis.WebSocket } = options;
  let isOpen = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const expect = (ms: number) => {
    clearTimeout(timer);
    timer = setTimeout(() => client.terminate(), ms);
  };
  const client = createClient({
    url: toSocketUrl(url),
    connectionParams: async () => ({ authorization: `Bearer ${typeof key === 'string' ? key : await key()}` }),
    webSocketImpl: hearErrors(webSocketImpl),
    retryAttempts: 0,
    // opened at once and kept between operations; a lazy one's closing timer would hold a finished process open
    lazy: false,
    onNonLazyError: () => {}, // each operation is told itself
    connectionAckWaitTimeout: CONNECT_WITHIN_MS,
    keepAlive: PING_EVERY_MS,
    on: {
      connecting: () => expect(CONNECT_WITHIN_MS),
      connected() {
        clearTimeout(timer);
        isOpen = true;
        onAcknowledged();
      },
      ping: (isReceived) => !isReceived && expect(PONG_WITHIN_MS),
      pong: (isReceived) => isReceived && clearTimeout(timer),
      closed() {
        clearTimeout(timer);
        isOpen = false;
      },
    },
  });
  return {
    client,
    close() {
      clearTimeout(timer);
      // `dispose` says a proper goodbye but waits for a connection that may never come; `terminate` doesn't
      if (isOpen) Promise.resolve(client.dispose()).catch(() => {});
      else client.terminate();
    },
  };
}

/** `http://host` and `https://host/graphql` alike become the WebSocket's address. */
function toSocketUrl(text: string): string {
  const url = new URL(text);
  url.protocol = url.protocol.replace('http', 'ws');
  if (url.pathname === '/') url.pathname = '/graphql';
  return url.href;
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
