import type { Duplex } from 'node:stream';
import type { WebSocket as GraphqlSocket } from 'graphql-ws';
import type { WebSocket } from 'ws';
import type { Sink } from '../live/stream.ts';
import { createSendQueue, type SendQueue } from './send-queue.ts';
import type { EndStream } from './silent-iterator.ts';

/** Operations that one socket may hold. */
const MAX_OPERATIONS = 100;
/** Messages a second, and how many may come at once. */
const MESSAGE_RATE = 50;
const MESSAGE_BURST = 200;
/** Closes with it: a client that does not read, or floods. Stock clients come back. */
const SLOW_OR_FLOODING = 4508;
const UNSUPPORTED_DATA = 1003;
const TRY_AGAIN_LATER = 1013;

/**
 * One WebSocket. *Open* until the first of: the client closes, misses a ping, lets 1 MiB pile up (4508), floods (4508),
 * sends binary (1003) or more than 100 KiB at once (1009); then *closed*, its queue dropped.
 */
export class Connection {
  /** Whose it is, once it has been acknowledged. */
  principalId: string | undefined;
  readonly #socket: WebSocket;
  readonly #raw: Duplex;
  readonly #queue: SendQueue;
  readonly #streams = new Set<EndStream>();
  #isAlive = true;
  #tokens = MESSAGE_BURST;
  #refilledAt = performance.now();

  constructor(socket: WebSocket, raw: Duplex) {
    this.#socket = socket;
    this.#raw = raw;
    this.#queue = createSendQueue({
      write: (texts) => this.#write(texts),
      pendingBytes: () => socket.bufferedAmount,
      onOverflow: () => this.close(SLOW_OR_FLOODING, 'Slow consumer'),
    });
    raw.on('drain', () => this.#queue.drain());
    socket.on('pong', () => {
      this.#isAlive = true;
    });
    socket.on('ping', () => this.#spend());
  }

  /** What graphql-ws needs of a socket. */
  get adapter(): GraphqlSocket {
    return {
      protocol: this.#socket.protocol,
      send: (data) => this.#queue.push(data),
      close: (code, reason) => this.close(code ?? 1000, reason ?? ''),
      onMessage: (receive) => this.#socket.on('message', (data, isBinary) => this.#receive(data, isBinary, receive)),
    };
  }

  /** Whether one more operation may begin. */
  mayOpen(): boolean {
    return this.#streams.size < MAX_OPERATIONS;
  }

  /** Where the results of a subscription go: `end` tells graphql-ws that it is over. */
  sinkFor(id: string, end: EndStream): Sink {
    const prefix = `{"id":${JSON.stringify(id)},"type":"next","payload":`;
    let isOver = false;
    const over: EndStream = (error) => {
      isOver = true;
      this.#streams.delete(over);
      end(error);
    };
    this.#streams.add(over);
    return {
      next: ({ body }) => {
        if (!isOver) this.#queue.push(`${prefix}${body}}`);
      },
      ready: () => this.#queue.ready(),
      end: over,
    };
  }

  /** Ends a socket that did not answer the last ping, pings the others. */
  ping(): void {
    if (this.#isAlive) this.#socket.ping();
    else this.terminate();
    this.#isAlive = false;
  }

  close(code: number, reason: string): void {
    if (code === SLOW_OR_FLOODING) this.#queue.close();
    else this.#queue.finish();
    this.#socket.close(code, reason);
  }

  terminate(): void {
    this.#socket.terminate();
  }

  /** Frees what it holds; call when the socket is closed. */
  dispose(): void {
    this.#queue.close();
    this.#streams.clear();
  }

  #write(texts: readonly string[]): void {
    if (this.#socket.readyState !== this.#socket.OPEN) return;
    // one system call for all that one turn has brought
    this.#raw.cork();
    for (const text of texts) this.#socket.send(text);
    this.#raw.uncork();
  }

  #receive(data: unknown, isBinary: boolean, receive: (text: string) => Promise<void>): void {
    if (isBinary) this.close(UNSUPPORTED_DATA, 'Text only');
    if (isBinary || !this.#spend()) return;
    // a failure here is ours, the database's or the bus's: the client may come back
    receive(String(data)).catch(() => this.close(TRY_AGAIN_LATER, 'Try again later'));
  }

  /** Takes one token; false if there is none, and the socket closes. */
  #spend(): boolean {
    const now = performance.now();
    this.#tokens = Math.min(MESSAGE_BURST, this.#tokens + ((now - this.#refilledAt) * MESSAGE_RATE) / 1_000);
    this.#refilledAt = now;
    this.#tokens--;
    if (this.#tokens >= 0) return true;
    this.close(SLOW_OR_FLOODING, 'Too many messages');
    return false;
  }
}
