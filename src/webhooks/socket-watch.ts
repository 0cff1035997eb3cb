import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import type { DiagnosticsChannel } from 'undici';

/** More arrived for one request than any honest answer holds; the socket is destroyed with it. */
export class ResponseOverflowError extends Error {
  constructor(maxBytes: number) {
    super(`more than ${maxBytes} bytes arrived in answer to one request`);
    this.name = 'ResponseOverflowError';
  }
}

/** What is known of one request's socket: nothing until it is written. */
export interface SocketTrace {
  readonly remoteAddress: string | undefined;
  /** Ends the byte count: call when the request is settled. */
  release(): void;
}

/** Tells requests which socket carried them, and cuts sockets that answer one request with too many bytes. */
export interface SocketWatch {
  /** Runs `start`, which must dispatch exactly one undici request before it returns, and traces that request. */
  trace<T>(start: () => T): { readonly result: T; readonly trace: SocketTrace };
  /** Stops listening. Requests already traced keep what they know. */
  close(): void;
}

/**
 * Makes a watch. undici bounds a header block and we read 4 KiB of body, but informational responses, chunk extensions and
 * trailers are bounded by neither: only a count on the socket ends them. undici names a request's socket on its
 * diagnostics channels alone.
 *
 * @see https://undici.nodejs.org/#/docs/api/DiagnosticsChannel
 */
export function createSocketWatch(options: { readonly maxResponseBytes: number }): SocketWatch {
  const traces = new WeakMap<object, MutableTrace>();
  let starting: MutableTrace | undefined;

  const onCreate = (message: unknown) => {
    // The channel's documented message; undici publishes nothing else on it.
    const { request } = message as DiagnosticsChannel.RequestCreateMessage;
    if (starting !== undefined) traces.set(request, starting);
    // Through a proxy a CONNECT request may follow at once: it is not the traced one.
    starting = undefined;
  };
  const onSend = (message: unknown) => {
    // As above.
    const { request, socket } = message as DiagnosticsChannel.ClientSendHeadersMessage;
    traces.get(request)?.attach(socket);
  };
  subscribe('undici:request:create', onCreate);
  subscribe('undici:client:sendHeaders', onSend);

  return {
    trace(start) {
      const trace = new MutableTrace(options.maxResponseBytes);
      starting = trace;
      try {
        return { result: start(), trace };
      } finally {
        starting = undefined;
      }
    },
    close() {
      unsubscribe('undici:request:create', onCreate);
      unsubscribe('undici:client:sendHeaders', onSend);
    },
  };
}

class MutableTrace implements SocketTrace {
  remoteAddress: string | undefined;
  readonly #maxBytes: number;
  #release = () => {};

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  attach(socket: Socket): void {
    this.release();
    this.remoteAddress = socket.remoteAddress;
    const limit = socket.bytesRead + this.#maxBytes;
    const count = () => {
      if (socket.bytesRead > limit) socket.destroy(new ResponseOverflowError(this.#maxBytes));
    };
    socket.on('readable', count);
    this.#release = () => socket.off('readable', count);
  }

  release(): void {
    this.#release();
    this.#release = () => {};
  }
}
