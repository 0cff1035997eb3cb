import type { Duplex } from 'node:stream';
import type { ExecutionResult, GraphQLError } from 'graphql';
import { CloseCode, type WebSocket as GraphqlSocket, MessageType } from 'graphql-ws';
import { WebSocket } from 'ws';
import type { Principal } from '../identity/principal.ts';
import { toByteString } from '../runtime/byte-string.ts';
import type { Observe } from '../runtime/observe.ts';
import type { Departing } from './drain.ts';
import { textFrameHeader } from './frame.ts';
import { isTooDeep } from './request.ts';
import { type Outlet, SendQueue, type Turn } from './send-queue.ts';
import type { Session } from './session.ts';
import { SocketCall } from './socket-call.ts';
import { type SocketOperation, SocketStream, type StreamHome } from './socket-stream.ts';

/** Messages a second, and how many may come at once. */
const MESSAGE_RATE = 50;
const MESSAGE_BURST = 200;
/** What a message takes of the allowance, which grows by the rate each ms: whole numbers need no memory of their own. */
const MESSAGE_PRICE = 1_000;
/** Closes with it: a client that does not read, or floods. Stock clients come back. */
const SLOW_OR_FLOODING = 4508;
const UNSUPPORTED_DATA = 1003;
const SERVICE_RESTART = 1012;
/** Closes with it: what may pass, such as too many sockets. Stock clients come back later. */
export const TRY_AGAIN_LATER = 1013;

export interface ConnectionOptions {
  readonly socket: ClientSocket;
  /** The socket that the upgrade handler got. */
  readonly raw: Duplex;
  readonly side: ServerSide;
}

/** What all connections of a server share. */
export interface ServerSide {
  readonly turn: Turn;
  readonly observe: Observe;
  /** Hears each message before graphql-ws does; true if it was meant for nobody else. */
  readonly hearFirst: (connection: Connection, message: object) => boolean;
  /** What a client is told of anything that was thrown. */
  readonly report: (error: unknown) => readonly GraphQLError[];
  /** Called once, when the socket is closed and holds nothing any more. */
  readonly onClose: (connection: Connection, code: number, reason: string) => void;
}

const NONE: readonly SocketOperation[] = [];

/** A socket without listeners: they would be five closures for each. What it has to tell it tells its connection. */
export class ClientSocket extends WebSocket {
  connection: Connection | undefined;

  override close(code?: number, reason?: string | Buffer): void {
    super.close(code, reason);
    this.connection?.hearClosing();
  }

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
export class Connection implements GraphqlSocket, Outlet, Departing, StreamHome {
  /** Whose it is, once it has been acknowledged; kept up with the key's scopes. */
  principal: Principal | undefined;
  /** Set with the first word to graphql-ws. */
  session: Session | undefined;
  /** Whether `connection_init` has come. */
  isInitialized = false;
  /** Queries and mutations under way: their answers are not on the way yet. */
  calls = 0;
  /** What goes to the client, as byte strings of whole frames. */
  readonly queue: SendQueue;
  readonly #socket: ClientSocket;
  readonly #raw: Duplex;
  readonly #side: ServerSide;
  #onMessage: ((message: string) => Promise<void>) | undefined;
  /** Copied for each change: most sockets have one or two, and a list that can grow takes as much memory as a dozen. */
  #operations = NONE;
  #isAlive = true;
  #isClosing = false;
  #allowance = MESSAGE_BURST * MESSAGE_PRICE;
  #refilledAt = Math.floor(performance.now());

  constructor({ socket, raw, side }: ConnectionOptions) {
    this.#side = side;
    this.#socket = socket;
    this.#raw = raw;
    this.queue = new SendQueue(this, side.turn);
    socket.connection = this;
  }

  get protocol(): string {
    return this.#socket.protocol;
  }

  /** Sends a message of the protocol, behind all that was sent before. */
  send(message: string): void {
    const bytes = toByteString(message);
    this.queue.push(textFrameHeader(bytes.length) + bytes);
  }

  onMessage(receive: (text: string) => Promise<void>): void {
    this.#onMessage = receive;
  }

  /** Tells what is wrong with an operation; it is over with that. */
  sendErrors(id: string, errors: readonly GraphQLError[]): void {
    this.send(JSON.stringify({ id, type: MessageType.Error, payload: errors }));
  }

  /** The one result of a query or mutation. @throws before anything is sent if JSON has no form for it */
  answer(id: string, result: ExecutionResult): void {
    this.send(JSON.stringify({ id, type: MessageType.Next, payload: result }));
    this.send(JSON.stringify({ id, type: MessageType.Complete }));
  }

  /** How many the client has under way. */
  get operations(): number {
    return this.#operations.length;
  }

  holds(id: string): boolean {
    return this.#operations.some((operation) => operation.id === id);
  }

  /** Where the results of a subscription go; its id must be free. */
  openStream(id: string): SocketStream {
    return this.#hold(new SocketStream(id, this));
  }

  /** A query or mutation begins; its id must be free. */
  openCall(id: string): SocketCall {
    return this.#hold(new SocketCall(id));
  }

  /** The client wants no more of it, if there is such an operation. */
  complete(id: string): void {
    const operation = this.#operations.find((each) => each.id === id);
    if (operation !== undefined) this.drop(operation);
  }

  /** Takes it off the socket; false if it is not there any more, and the client has to hear nothing of it. */
  drop(operation: SocketOperation): boolean {
    if (!this.#operations.includes(operation)) return false;
    this.#operations = this.#operations.length === 1 ? NONE : this.#operations.filter((each) => each !== operation);
    operation.leave();
    return true;
  }

  endStream(stream: SocketStream, error?: unknown): void {
    if (!this.drop(stream)) return;
    if (error === undefined) this.send(JSON.stringify({ id: stream.id, type: MessageType.Complete }));
    else this.sendErrors(stream.id, this.#side.report(error));
  }

  /** Ends a socket that did not answer the last ping, pings the others. One that closes has the 30 s of `ws` to read why. */
  ping(): void {
    if (this.#isClosing) return;
    if (this.#isAlive) this.#socket.ping();
    else this.terminate();
    this.#isAlive = false;
  }

  close(code = 1000, reason = ''): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    if (code === SLOW_OR_FLOODING) this.queue.close();
    else this.queue.finish();
    this.#socket.close(code, reason);
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

  /**
   * @internal for its socket: the close has begun, by whichever side or fault. Its operations end at once: the peer may take its
   * time to answer, and what is replayed to nobody would know no bounds.
   */
  hearClosing(): void {
    this.#isClosing = true;
    this.queue.close();
    this.#leaveAll();
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
    this.hearClosing();
    this.#side.onClose(this, code, reason);
  }

  #hold<Kind extends SocketOperation>(operation: Kind): Kind {
    this.#operations = [...this.#operations, operation];
    return operation;
  }

  /** Without a "complete", which would tell the client that there is nothing to come back for. */
  #leaveAll(): void {
    for (const operation of this.#operations) operation.leave();
    this.#operations = NONE;
  }

  /** Messages are parsed and limited once, here. */
  #receive(data: unknown, isBinary: boolean): void {
    if (this.#isClosing) return;
    if (isBinary) this.close(UNSUPPORTED_DATA, 'Text only');
    if (isBinary || !this.#spend()) return;
    const message = parseMessage(String(data));
    if (message === undefined) this.close(CloseCode.BadRequest, 'Invalid message received');
    else if (!this.#side.hearFirst(this, message)) this.#handOn(message);
  }

  #handOn(message: object): void {
    // graphql-ws's own parseMessage takes an object as it is, and checks it; its adapter's type knows only of texts
    const whole = message as unknown as string;
    // a failure here is ours, the database's or the bus's: the client may come back
    this.#onMessage?.(whole).catch((error: unknown) => this.#giveUp(error));
  }

  #giveUp(error: unknown): void {
    this.#side.observe({ name: 'socket.failed', level: 'error', error });
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
function parseMessage(text: string): object | undefined {
  if (isTooDeep(text)) return undefined;
  try {
    const message: unknown = JSON.parse(text);
    return typeof message === 'object' && message !== null ? message : undefined;
  } catch {
    return undefined;
  }
}
