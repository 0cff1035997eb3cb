import type { Sink } from 'graphql-ws';

/** The sink that an iterator reads, and what it reads by. */
interface Open<T> {
  /** A result that the reader has not asked for yet; `taken` lets the next one come. */
  offered: { readonly value: T; readonly taken: () => void } | undefined;
  /** Readers that wait. */
  readonly waiting: PromiseWithResolvers<IteratorResult<T, undefined>>[];
  /** It is over: by an error that no reader has got yet, or not. */
  over: { error?: unknown } | undefined;
}

/**
 * Makes an iterator of a subscription. It takes one result at a time, so that a slow reader is a slow sink; `return` settles
 * at once, and every `next` that waits with it.
 */
export function iterateOver<T>(
  subscribe: (sink: Sink<T>) => () => void,
  toError: (error: unknown) => unknown,
): AsyncIterableIterator<T, undefined, unknown> {
  const open: Open<T> = { offered: undefined, waiting: [], over: undefined };
  const finish = (over: NonNullable<Open<T>['over']>) => {
    open.over ??= over;
    for (const reader of open.waiting.splice(0)) settle(open, reader);
  };
  const unsubscribe = subscribe({
    next: (value) => offer(open, value),
    error: (error) => finish({ error: toError(error) }),
    complete: () => finish({}),
  });
  const leave = () => {
    open.offered?.taken();
    open.offered = undefined;
    finish({});
    unsubscribe();
  };
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next() {
      const reader = Promise.withResolvers<IteratorResult<T, undefined>>();
      if (open.offered === undefined && open.over === undefined) open.waiting.push(reader);
      else settle(open, reader);
      return reader.promise;
    },
    async return() {
      leave();
      return { done: true, value: undefined };
    },
    async throw(error) {
      leave();
      throw error;
    },
  };
}

/** @returns a promise where nobody waits for it: the next one comes when it was taken */
function offer<T>(open: Open<T>, value: T): void | Promise<void> {
  const reader = open.waiting.shift();
  if (reader !== undefined) {
    reader.resolve({ done: false, value });
    return undefined;
  }
  return new Promise<void>((taken) => {
    open.offered = { value, taken };
  });
}

function settle<T>(open: Open<T>, reader: PromiseWithResolvers<IteratorResult<T, undefined>>): void {
  const { offered, over } = open;
  if (offered !== undefined) {
    open.offered = undefined;
    offered.taken();
    reader.resolve({ done: false, value: offered.value });
  } else if (over !== undefined && 'error' in over) {
    open.over = {};
    reader.reject(over.error);
  } else reader.resolve({ done: true, value: undefined });
}
