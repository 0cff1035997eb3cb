import { MessageType } from 'graphql-ws';
import type { Frame, Sink } from '../live/stream.ts';
import { toByteString } from '../runtime/byte-string.ts';
import { textFrameHeader } from './frame.ts';
import type { SendQueue } from './send-queue.ts';

/** Whatever a client has under way on a socket. */
export interface SocketOperation {
  /** As the client named it. */
  readonly id: string;
  /** Lets go of what works for it; twice is harmless. */
  leave(): void;
}

/** The socket that a stream is on. */
export interface StreamHome {
  readonly queue: SendQueue;
  /** Takes the stream off the socket, and tells the client that it has ended. */
  endStream(stream: SocketStream, error?: unknown): void;
}

/**
 * One subscription of a socket. *Opening* until `attach`, then *open*; *over* by whichever comes first: an end, the client's
 * `complete`, the socket's close. A class, so that a socket holds one object for it and no closures.
 */
export class SocketStream implements Sink, SocketOperation {
  readonly id: string;
  readonly #home: StreamHome;
  readonly #prefix: string;
  #detach: (() => void) | undefined;
  #isOver = false;

  constructor(id: string, home: StreamHome) {
    this.id = id;
    this.#home = home;
    this.#prefix = toByteString(`{"id":${JSON.stringify(id)},"type":"${MessageType.Next}","payload":`);
  }

  /** Says how it leaves where its results come from; at once if it is over already. */
  attach(detach: () => void): void {
    if (this.#isOver) detach();
    else this.#detach = detach;
  }

  next({ bytes }: Frame): void {
    if (this.#isOver) return;
    const header = textFrameHeader(this.#prefix.length + bytes.length + 1);
    this.#home.queue.push(`${header}${this.#prefix}${bytes}}`);
  }

  ready(): Promise<void> {
    return this.#home.queue.ready();
  }

  end(error?: unknown): void {
    if (!this.#isOver) this.#home.endStream(this, error);
  }

  leave(): void {
    this.#isOver = true;
    this.#detach?.();
    this.#detach = undefined;
  }
}
