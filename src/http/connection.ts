import type { Duplex } from 'node:stream';
import { CloseCode, type WebSocket as GraphqlSocket } from 'graphql-ws';
import type { WebSocket } from 'ws';
import type { Principal } from '../identity/principal.ts';
import type { Sink } from '../live/stream.ts';
import type { Observe } from '../runtime/observe.ts';
import { isTooDeep } from './request.ts';
import { createSendQueue, type SendQueue } from './send-queue.ts';
import type { EndStream } from './silent-iterator.ts';

/** Messages a second, and how many may come at once. */
const MESSAGE_RATE = 50;
const MESSAGE_BURST = 200;
/** Closes with it: a client that does not read, or floods. Stock clients come back. */
const SLOW_OR_FLOODING = 4508;
const UNSUPPORTED_DATA = 1003;
const TRY_AGAIN_LATER = 1013;

export interface ConnectionOptions {
  readonly socket: WebSocket;
  /** The socket that the upgrade handler got. */
  readonly raw: Duplex;
  readonly observe: Observe;
}

/**
 * One WebSocket. *Open* until the first of: the client closes, misses a ping, lets 1 MiB pile up (4508), floods (4508),
 * sends binary (1003) or more than 100 KiB at once (1009); then *closed*, its queue dropped.
 */
export class Connection {
  /** Whose it is, once it has been acknowledged; kept up with the key's scopes. */
  principal: Principal | undefined;
  readonly #socket: WebSocket;
  readonly #raw: Duplex;
  readonly #observe: Observe;
  readonly #queue: SendQueue;
  readonly #streams = new Set<EndStream>();
  #isAlive = true;
  #isClosing = false;
  #tokens = MESSAGE_BURST;
  #refilledAt = performance.now();

  constructor({ socket, raw, observe }: ConnectionOptions) {
    this.#observe = observe;
    this.#socket = socket;
    this.#raw = raw;
    this.#queue = createSendQueue({
      write: (texts) => this.#write(texts),
      pendingBytes: () => socket.bufferedAmount,
      onOverflow: () => this.close(SLOW_OR_FLOODING, 'Slow consumer'),
    });
    raw.on('drain', () => this.#queue.drain());
    socket.on('pong', () => {
      if (this.#isAlive) this.#spend(); // nobody asked for it
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

  /** Where the results of a subscription go: `end` tells graphql-ws that it is over. Call `forget` when it is, whichever way. */
  sinkFor(id: string, end: EndStream): { readonly sink: Sink; forget(): void } {
    const prefix = `{"id":${JSON.stringify(id)},"type":"next","payload":`;
    this.#streams.add(end);
    const sink: Sink = {
      next: ({ body }) => {
        if (this.#streams.has(end)) this.#queue.push(`${prefix}${body}}`);
      },
      ready: () => this.#queue.ready(),
      end: (error) => {
        this.#streams.delete(end);
        end(error);
      },
    };
    return { sink, forget: () => void this.#streams.delete(end) };
  }

  /** Ends a socket that did not answer the last ping, pings the others. */
  ping(): void {
    if (this.#isAlive) this.#socket.ping();
    else this.terminate();
    this.#isAlive = false;
  }

  /** Ends its streams at once: the peer may take its time to answer the close, or never read it. */
  close(code: number, reason: string): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    if (code === SLOW_OR_FLOODING) this.#queue.close();
    else this.#queue.finish();
    this.#socket.close(code, reason);
    // behind the closed queue: a "complete" would tell the client that there is nothing to come back for
    for (const end of this.#streams) end();
    this.#streams.clear();
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
    if (this.#isClosing) return;
    if (isBinary) this.close(UNSUPPORTED_DATA, 'Text only');
    if (isBinary || !this.#spend()) return;
    const text = String(data);
    if (isTooDeep(text)) this.close(CloseCode.BadRequest, 'Invalid message received');
    // a failure here is ours, the database's or the bus's: the client may come back
    else receive(text).catch((error: unknown) => this.#giveUp(error));
  }

  #giveUp(error: unknown): void {
    this.#observe({ name: 'socket.failed', level: 'error', error });
    this.close(TRY_AGAIN_LATER, 'Try again later');
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
