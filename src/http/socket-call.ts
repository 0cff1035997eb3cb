import type { SocketOperation } from './socket-stream.ts';

/** One query or mutation of a socket, as long as its client waits for the answer. */
export class SocketCall implements SocketOperation {
  readonly id: string;
  readonly #left = new AbortController();

  constructor(id: string) {
    this.id = id;
  }

  /** Aborts when the client wants no answer any more, or is gone. */
  get signal(): AbortSignal {
    return this.#left.signal;
  }

  leave(): void {
    this.#left.abort();
  }
}
