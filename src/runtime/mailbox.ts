export interface MailboxOptions<T> {
  /** The most that may wait to be read, in the unit of `sizeOf`. An item that a pending `next()` takes never waits. */
  readonly capacity: number;
  /** The size of an item, such as its bytes. @default 1 for each item: `capacity` counts items */
  readonly sizeOf?: (item: T) => number;
  /**
   * Called synchronously by `push` when the item does not fit. The item is already refused: what it stood for is a gap,
   * so the owner usually calls `fail`, or `end` after which the reader resumes by its cursor. It may do nothing.
   */
  readonly onOverflow: (mailbox: Mailbox<T>) => void;
  /** Called once, synchronously, when the mailbox stops taking items, whichever way: the place to unsubscribe. */
  readonly onClose?: () => void;
  /** Aborting it while the mailbox is open does what `return()` does. */
  readonly signal?: AbortSignal;
}

/** A bounded queue with one writer's side and, as an async iterator, one reader's side. */
export interface Mailbox<T> extends AsyncIterableIterator<T, undefined, undefined> {
  /** Adds an item; false if it was refused: it does not fit, or the mailbox is closed. Never blocks. */
  push(item: T): boolean;
  /** Closes; the reader still gets what waits, then the end. */
  end(): void;
  /** Closes and discards what waits; the next read rejects with the error, once, and later ones are the end. */
  fail(error: unknown): void;
  /** What waits to be read, in the unit of `sizeOf`; never above `capacity`. */
  readonly size: number;
  /** The reader has had enough: closes, discards what waits, settles every pending `next()` as done. */
  return(): Promise<IteratorReturnResult<undefined>>;
  [Symbol.asyncIterator](): Mailbox<T>;
}

interface Node<T> {
  readonly item: T;
  readonly size: number;
  next: Node<T> | undefined;
}

type Reader<T> = PromiseWithResolvers<IteratorResult<T, undefined>>;

const done = (): IteratorReturnResult<undefined> => ({ done: true, value: undefined });

/**
 * Makes a mailbox. States: *open*; *ending* (after `end`, items still wait); *failed* (after `fail`, until one read has
 * rejected); *closed*. `return` leads to *closed* from any state, `end`, `fail` and the abort do something only while open,
 * and nothing leads out of *closed*.
 *
 * Written by hand, because an async generator can't be returned while its `next()` is pending: a quiet one would keep
 * its subscription for ever after the client has gone.
 *
 * @see https://github.com/enisdenjo/graphql-ws/issues/653
 */
export function createMailbox<T>(options: MailboxOptions<T>): Mailbox<T> {
  const { capacity, sizeOf = () => 1, onOverflow, onClose, signal } = options;
  const readers: Reader<T>[] = [];
  let oldest: Node<T> | undefined;
  let newest: Node<T> | undefined;
  let size = 0;
  let open = true;
  let failure: { readonly error: unknown } | undefined;

  const mailbox: Mailbox<T> = {
    push(item) {
      if (!open) return false;
      const reader = readers.shift();
      if (reader !== undefined) {
        reader.resolve({ done: false, value: item });
        return true;
      }
      const itemSize = sizeOf(item);
      if (size + itemSize > capacity) {
        onOverflow(mailbox);
        return false;
      }
      enqueue({ item, size: itemSize, next: undefined });
      return true;
    },
    end: () => close(),
    fail(error) {
      if (!open) return;
      discard();
      const reader = readers.shift();
      if (reader === undefined) failure = { error };
      else reader.reject(error);
      close();
    },
    get size() {
      return size;
    },
    next() {
      if (failure !== undefined) {
        const { error } = failure;
        failure = undefined;
        return Promise.reject(error);
      }
      if (oldest !== undefined) return Promise.resolve({ done: false, value: dequeue(oldest) });
      if (!open) return Promise.resolve(done());
      const reader: Reader<T> = Promise.withResolvers();
      readers.push(reader);
      return reader.promise;
    },
    async return() {
      abandon();
      return done();
    },
    [Symbol.asyncIterator]: () => mailbox,
  };

  signal?.addEventListener('abort', abandon, { once: true });
  if (signal?.aborted) abandon();
  return mailbox;

  function abandon(): void {
    discard();
    failure = undefined;
    close();
  }

  function close(): void {
    if (!open) return;
    open = false;
    signal?.removeEventListener('abort', abandon);
    for (const reader of readers.splice(0)) reader.resolve(done());
    onClose?.();
  }

  function discard(): void {
    oldest = undefined;
    newest = undefined;
    size = 0;
  }

  function enqueue(node: Node<T>): void {
    if (newest === undefined) oldest = node;
    else newest.next = node;
    newest = node;
    size += node.size;
  }

  function dequeue(node: Node<T>): T {
    oldest = node.next;
    if (oldest === undefined) newest = undefined;
    size -= node.size;
    return node.item;
  }
}
