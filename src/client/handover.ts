/** Gives items to one taker, in order, one at a time. */
export interface Handover<T> {
  /** Hands it over at once if the taker is free, else keeps it. @returns false if as many wait as may: it was kept all the same */
  offer(item: T): boolean;
  /** Resolves when nothing waits and the taker is free, or when it is closed and the taker is free. Never rejects. */
  drained(): Promise<void>;
  /** Drops what waits and takes no more. */
  close(): void;
}

export interface HandoverOptions<T> {
  /** Its promise is awaited before the next item. */
  readonly take: (item: T) => void | Promise<void>;
  /** What `take` threw or rejected with; called at most once, and the handover is then closed. */
  readonly onFailure: (error: unknown) => void;
  /** How many may wait. */
  readonly max: number;
}

/** Builds one. *Free*, until `take` gives a promise; *busy* until that settles and nothing waits; *closed*. */
export function createHandover<T>({ take, onFailure, max }: HandoverOptions<T>): Handover<T> {
  const waiting: T[] = [];
  let isClosed = false;
  let busy: Promise<void> | undefined;

  const close = () => {
    isClosed = true;
    waiting.length = 0;
  };
  const fail = (error: unknown) => {
    const isFirst = !isClosed;
    close();
    if (isFirst) onFailure(error);
  };

  async function work(first: Promise<void>): Promise<void> {
    try {
      await first;
      for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await take(item);
    } catch (error) {
      fail(error);
    } finally {
      busy = undefined; // in the same turn as the look at what waits, so that nothing can come in between
    }
  }

  return {
    offer(item) {
      if (isClosed) return true;
      if (busy !== undefined) return waiting.push(item) < max;
      try {
        const taken = take(item);
        if (isPromise(taken)) busy = work(taken);
      } catch (error) {
        fail(error);
      }
      return true;
    },
    async drained() {
      while (busy !== undefined) await busy;
    },
    close,
  };
}

/** Also one of another making: sinks come from libraries. */
function isPromise(value: unknown): value is Promise<void> {
  return typeof (value as { readonly then?: unknown } | null | undefined)?.then === 'function';
}
