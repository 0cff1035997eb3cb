import type { Socket } from 'node:net';
import { type buildConnector, Client, type Dispatcher } from 'undici';
import type { Connector } from './connection.ts';
import type { ConnectionTimings } from './connection-timings.ts';
import { createHeaderCount, MAX_HEADER_LINES } from './header-count.ts';

/** More arrived for one request than any honest answer holds; the socket is destroyed with it. */
export class ResponseOverflowError extends Error {
  constructor(max: string) {
    super(`more than ${max} arrived in answer to one request`);
    this.name = 'ResponseOverflowError';
  }
}

/** A connection as its requests see it. */
export interface Connection {
  readonly remoteAddress: string | undefined;
  /** How it came about; undefined behind a proxy. */
  readonly timings: ConnectionTimings | undefined;
  /** Requests written on it so far. */
  readonly requestCount: number;
  /** Call as each request is written: counts the bytes of its answer from here. */
  begin(): void;
}

/** A handler that is told who carries its request, when that is settled: before `onRequestStart`. */
export interface CarriedHandler extends Dispatcher.DispatchHandler {
  carrier: Carrier | undefined;
}

/**
 * undici's client of one connection at a time, which knows that connection: undici names a request's socket on its diagnostics
 * channels alone, and these cost each request two maps and a message.
 */
export class Carrier extends Client {
  /** That requests are written on now; undefined before the first. */
  connection: Connection | undefined;

  constructor(origin: string | URL, options: Client.Options, timingsOf: Connector['timingsOf']) {
    super(origin, { ...options, connect: (target, callback) => this.#connect(target, callback) });
    // As the pool gives them: it has made a function of them.
    const connect = options.connect as buildConnector.connector;
    this.#open = (target, callback) =>
      connect(target, (...[error, socket]: buildConnector.CallbackArgs) => {
        if (error !== null) return callback(error, null);
        // Node ends no TLS connection for an error behind the handshake, such as the alert that a certificate of ours is required:
        // undici waits for the end, and would name what comes with it, or the deadline
        socket.once('error', () => socket.destroy());
        this.connection = new OpenConnection(socket, timingsOf(socket));
        callback(null, socket);
      });
  }

  readonly #open: buildConnector.connector;

  #connect(...[target, callback]: Parameters<buildConnector.connector>): void {
    this.#open(target, callback);
  }

  override dispatch(
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler | CarriedHandler,
  ): boolean {
    if ('carrier' in handler) handler.carrier = this;
    return super.dispatch(options, handler);
  }
}

/**
 * Cuts the socket when one request is answered with too much. undici bounds the bytes of header blocks and trailers, and we read 4 KiB
 * of body, but informational responses and chunk extensions are bounded by neither: only a count on the socket ends them. Nor is
 * the number of header lines, of which it holds two objects each until the last has come.
 */
class OpenConnection implements Connection {
  readonly remoteAddress: string | undefined;
  readonly timings: ConnectionTimings | undefined;
  requestCount = 0;
  readonly #socket: Socket;
  #limit = Number.POSITIVE_INFINITY;

  constructor(socket: Socket, timings: ConnectionTimings | undefined) {
    this.#socket = socket;
    this.remoteAddress = socket.remoteAddress;
    this.timings = timings;
  }

  begin(): void {
    // One listener for all requests, and behind undici's: what it has read by then may have been the end of the answer.
    if (this.requestCount === 0) this.#watch();
    this.requestCount++;
    this.#limit = this.#socket.bytesRead + MAX_RESPONSE_BYTES;
  }

  #watch(): void {
    const headerCount = createHeaderCount(this.#socket);
    this.#socket.on('readable', () => {
      if (this.#socket.bytesRead > this.#limit) this.#cut(`${MAX_RESPONSE_BYTES} bytes`);
      else if (headerCount() > MAX_HEADER_LINES) this.#cut(`${MAX_HEADER_LINES} header lines`);
    });
  }

  #cut(max: string): void {
    this.#socket.destroy(new ResponseOverflowError(max));
  }
}

/** Of everything that arrives for one request, headers and framing included; body text is cut far below. */
const MAX_RESPONSE_BYTES = 65_536;
