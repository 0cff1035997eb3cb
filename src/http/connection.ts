import type { Duplex } from 'node:stream';
import { CloseCode, type WebSocket as GraphqlSocket } from 'graphql-ws';
import { WebSocket } from 'ws';
import type { Principal } from '../identity/principal.ts';
import type { Frame, Sink } from '../live/stream.ts';
import { toByteString } from '../runtime/byte-string.ts';
import type { Observe } from '../runtime/observe.ts';
import type { Departing } from './drain.ts';
import { textFrameHeader } from './frame.ts';
import { isTooDeep } from './request.ts';
import { type Outlet, SendQueue, type Turn } from './send-queue.ts';
import type { Attachment, Ending } from './silent-iterator.ts';

/** Messages a second, and how many may come at once. */
const MESSAGE_RATE = 50;
const MESSAGE_BURST = 200;
/** What a message takes of the allowance, which grows by the rate each ms: whole numbers need no memory of their own. */
const MESSAGE_PRICE = 1_000;
/** Closes with it: a client that does not read, or floods. Stock clients come back. */
const SLOW_OR_FLOODING = 4508;
const UNSUPPORTED_DATA = 1003;
const SERVICE_RESTART = 1012;
const TRY_AGAIN_LATER = 1013;

export interface ConnectionOptions {
  readonly socket: ClientSocket;
  /** The socket that the upgrade handler got. */
  readonly raw: Duplex;
  /** Shared by all connections of a server. */
  readonly turn: Turn;
  readonly observe: Observe;
  /** Called once, when the socket is closed and holds nothing any more. */
  readonly onClose: (connection: Connection, code: number, reason: string) => void;
}

/** Where the results of one subscription go, and what is released when it is over. */
export interface SocketStream extends Sink, Attachment {
  /** Takes it from where its results come from; set it once it is attached. */
  detach: (() => void) | undefined;
}

/** A socket without listeners: they would be five closures for each. What it has to tell it tells its connection. */
export class ClientSocket extends WebSocket {
  connection: Connection | undefined;

  override emit(event: string | symbol, ...values: unknown[]): boolean {
    if (this.connection === undefined) return super.emit(event, ...values);
    this.connection.hear(event, values);
    return true;
  }
}

/**
 * One WebSocket. *Open* until the first of: the client closes, misses a ping, lets 1 MiB pile up (4508), floods (4508),
 * sends binary (1003) or more than 100 KiB at once (1009); then *closed*, its queue dropped.
 *
 * Messages are framed here and written past `ws`, which sends pings, pongs and the close: each write is of whole frames, so
 * that none gets into another. That holds as long as no extension is negotiated.
 */
export class Connection implements GraphqlSocket, Outlet, Departing {
  /** Whose it is, once it has been acknowledged; kept up with the key's scopes. */
  principal: Principal | undefined;
  /** Whether `connection_init` has come. */
  isInitialized = false;
  /** Queries and mutations under way: their answers are not on the way yet. */
  calls = 0;
  readonly #socket: ClientSocket;
  readonly #raw: Duplex;
  readonly #observe: Observe;
  readonly #onClose: ConnectionOptions['onClose'];
  #onMessage: ((message: string) => Promise<void>) | undefined;
  readonly #queue: SendQueue;
  readonly #streams = new Set<StreamOfSocket>();
  #isAlive = true;
  #isClosing = false;
  #allowance = MESSAGE_BURST * MESSAGE_PRICE;
  #refilledAt = Math.floor(performance.now());

  constructor({ socket, raw, turn, observe, onClose }: ConnectionOptions) {
    this.#observe = observe;
    this.#onClose = onClose;
    this.#socket = socket;
    this.#raw = raw;
    this.#queue = new SendQueue(this, turn);
    socket.connection = this;
  }

  get protocol(): string {
    return this.#socket.protocol;
  }

  /** Sends a message of the protocol, behind all that was sent before. */
  send(message: string): void {
    const bytes = toByteString(message);
    this.#queue.push(textFrameHeader(bytes.length) + bytes);
  }

  onMessage(receive: (text: string) => Promise<void>): void {
    this.#onMessage = receive;
  }

  /** Where the results of a subscription go: `ending` tells graphql-ws that it is over. */
  openStream(id: string, ending: Ending): SocketStream {
    const stream = new StreamOfSocket({ id, ending, queue: this.#queue, siblings: this.#streams });
    this.#streams.add(stream);
    return stream;
  }

  /** Ends a socket that did not answer the last ping, pings the others. */
  ping(): void {
    if (this.#isAlive) this.#socket.ping();
    else this.terminate();
    this.#isAlive = false;
  }

  /** Ends its streams at once: the peer may take its time to answer the close, or never read it. */
  close(code = 1000, reason = ''): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    if (code === SLOW_OR_FLOODING) this.#queue.close();
    else this.#queue.finish();
    this.#socket.close(code, reason);
    // behind the closed queue: a "complete" would tell the client that there is nothing to come back for
    for (const stream of this.#streams) stream.end();
    this.#streams.clear();
  }

  /** Whether an answer is still to come. */
  isBusy(): boolean {
    return this.calls > 0;
  }

  /** As the process stops: the client comes back to another one. */
  sendAway(): void {
    this.close(SERVICE_RESTART, 'Service restart');
  }

  terminate(): void {
    this.#socket.terminate();
  }

  /** @internal for its socket: what `ws` emits. An error is followed by the close, with its code. */
  hear(event: string | symbol, [first, second]: readonly unknown[]): void {
    if (event === 'message') this.#receive(first, second === true);
    else if (event === 'ping') this.#spend();
    else if (event === 'pong') this.#hearPong();
    else if (event === 'close') this.#end(Number(first), String(second));
  }

  /** @internal for its queue */
  write(bytes: string | Buffer): void {
    // behind a close frame nothing may follow
    if (this.#socket.readyState === this.#socket.OPEN) this.#raw.write(bytes, 'latin1');
  }

  /** @internal for its queue */
  pendingBytes(): number {
    return this.#raw.writableLength;
  }

  /** @internal for its queue */
  whenDrained(resume: () => void): void {
    this.#raw.once('drain', resume);
  }

  /** @internal for its queue */
  onOverflow(): void {
    this.close(SLOW_OR_FLOODING, 'Slow consumer');
  }

  #hearPong(): void {
    if (this.#isAlive) this.#spend(); // nobody asked for it
    this.#isAlive = true;
  }

  #end(code: number, reason: string): void {
    this.#queue.close();
    this.#streams.clear();
    this.#onClose(this, code, reason);
  }

  /** graphql-ws gets messages parsed: while an operation runs it keeps what it was given, and the text is the larger part. */
  #receive(data: unknown, isBinary: boolean): void {
    if (this.#isClosing) return;
    if (isBinary) this.close(UNSUPPORTED_DATA, 'Text only');
    if (isBinary || !this.#spend()) return;
    const message = parseMessage(String(data));
    if (message === undefined) this.close(CloseCode.BadRequest, 'Invalid message received');
    // a failure here is ours, the database's or the bus's: the client may come back
    else this.#onMessage?.(message).catch((error: unknown) => this.#giveUp(error));
  }

  #giveUp(error: unknown): void {
    this.#observe({ name: 'socket.failed', level: 'error', error });
    this.close(TRY_AGAIN_LATER, 'Try again later');
  }

  /** Takes one message of the allowance; false if there is none, and the socket closes. */
  #spend(): boolean {
    const now = Math.floor(performance.now());
    const grown = this.#allowance + (now - this.#refilledAt) * MESSAGE_RATE;
    this.#allowance = Math.min(MESSAGE_BURST * MESSAGE_PRICE, grown) - MESSAGE_PRICE;
    this.#refilledAt = now;
    if (this.#allowance >= 0) return true;
    this.close(SLOW_OR_FLOODING, 'Too many messages');
    return false;
  }
}

/** Undefined for what is no JSON object, or nested too deep. */
function parseMessage(text: string): string | undefined {
  if (isTooDeep(text)) return undefined;
  try {
    const message: unknown = JSON.parse(text);
    // graphql-ws's own parseMessage takes an object as it is, and checks it; its adapter's type knows only of texts
    return typeof message === 'object' ? (message as unknown as string) : undefined;
  } catch {
    return undefined;
  }
}

interface StreamOptions {
  readonly id: string;
  readonly ending: Ending;
  readonly queue: SendQueue;
  /** It takes itself out of them. */
  readonly siblings: Set<StreamOfSocket>;
}

/** A class, so that a socket holds one object for it and no closures. */
class StreamOfSocket implements SocketStream {
  detach: (() => void) | undefined;
  readonly #prefix: string;
  readonly #ending: Ending;
  readonly #queue: SendQueue;
  readonly #siblings: Set<StreamOfSocket>;

  constructor({ id, ending, queue, siblings }: StreamOptions) {
    this.#prefix = toByteString(`{"id":${JSON.stringify(id)},"type":"next","payload":`);
    this.#ending = ending;
    this.#queue = queue;
    this.#siblings = siblings;
  }

  next({ bytes }: Frame): void {
    if (!this.#siblings.has(this)) return;
    const header = textFrameHeader(this.#prefix.length + bytes.length + 1);
    this.#queue.push(`${header}${this.#prefix}${bytes}}`);
  }

  ready(): Promise<void> {
    return this.#queue.ready();
  }

  end(error?: Error): void {
    this.#siblings.delete(this);
    this.#ending.end(error);
  }

  release(): void {
    this.#siblings.delete(this);
    this.detach?.();
  }
}
