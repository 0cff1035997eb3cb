/** Ends the iteration: without an error it is done, with one it rejects. */
export type EndStream = (error?: Error) => void;

/**
 * An iterator that never yields: its first `next()` attaches and settles only at the end. Results reach the client past
 * it. Written by hand because a quiet async generator can't be returned while `next()` is pending.
 */
export class SilentIterator implements AsyncGenerator<never, undefined, undefined> {
  readonly #attach: (end: EndStream) => Promise<() => void>;
  #detach: (() => void) | undefined;
  #settle: ((error?: Error) => void) | undefined;
  #isDone = false;

  /** @param attach resolves with what detaches; a rejection ends the iteration with it */
  constructor(attach: (end: EndStream) => Promise<() => void>) {
    this.#attach = attach;
  }

  next(): Promise<IteratorResult<never, undefined>> {
    if (this.#isDone) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#settle = (error) => (error === undefined ? resolve({ done: true, value: undefined }) : reject(error));
      this.#attach((error) => this.#end(error)).then(
        (detach) => {
          this.#detach = detach;
          if (this.#isDone) detach();
        },
        (error: Error) => this.#end(error),
      );
    });
  }

  async return(): Promise<IteratorResult<never, undefined>> {
    this.#end();
    return { done: true, value: undefined };
  }

  async throw(error: Error): Promise<IteratorResult<never, undefined>> {
    this.#end(error);
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end();
  }

  #end(error?: Error): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.#detach?.();
    this.#settle?.(error);
  }
}
