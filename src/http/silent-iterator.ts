/** What a subscription of a socket holds on to: the place where its results come from. */
export interface Attachment {
  /** Lets go of it; twice is harmless. */
  release(): void;
}

/** Ends an iteration: without an error it is done, with one it rejects. Twice is harmless. */
export interface Ending {
  end(error?: Error): void;
}

/**
 * An iterator that never yields: its first `next()` attaches and settles only at the end. Results reach the client past
 * it. Written by hand because a quiet async generator can't be returned while `next()` is pending, and without closures,
 * because there is one for each subscription.
 */
export class SilentIterator implements AsyncGenerator<never, undefined, undefined>, Ending {
  /** Dropped once it is called, with what it needed. */
  #attach: ((ending: Ending) => Promise<Attachment>) | undefined;
  #attachment: Attachment | undefined;
  #resolve: ((result: IteratorResult<never, undefined>) => void) | undefined;
  #reject: ((error: Error) => void) | undefined;
  #isDone = false;

  /** @param attach a rejection ends the iteration with it */
  constructor(attach: (ending: Ending) => Promise<Attachment>) {
    this.#attach = attach;
  }

  next(): Promise<IteratorResult<never, undefined>> {
    const attach = this.#attach;
    if (this.#isDone || attach === undefined) return Promise.resolve({ done: true, value: undefined });
    this.#attach = undefined;
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      attach(this).then(
        (attachment) => {
          this.#attachment = attachment;
          if (this.#isDone) attachment.release();
        },
        (error: Error) => this.end(error),
      );
    });
  }

  async return(): Promise<IteratorResult<never, undefined>> {
    this.end();
    return { done: true, value: undefined };
  }

  async throw(error: Error): Promise<IteratorResult<never, undefined>> {
    this.end(error);
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.end();
  }

  end(error?: Error): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.#attachment?.release();
    if (error === undefined) this.#resolve?.({ done: true, value: undefined });
    else this.#reject?.(error);
  }
}
