import { ToolError } from '../command-line.ts';

/** How an event comes to a client. */
export const WAYS = ['query', 'WebSocket', 'SSE', 'webhook'] as const;
export type Way = (typeof WAYS)[number];

/** An event as some way showed it; the rest of its fields is only compared. */
export interface ShownEvent {
  readonly id: string;
  readonly name: string;
  readonly [field: string]: unknown;
}

export interface Arrival {
  readonly event: ShownEvent;
  /** Monotonic milliseconds. */
  readonly atMs: number;
}

/** Where the ways put down what they brought. */
export interface Board {
  /** Notes an event that arrived now. A repeat is passed over: the first counts. */
  arrived(way: Way, event: ShownEvent): void;
  /** What was brought before. */
  find(way: Way, name: string): Arrival | undefined;
  /**
   * The event of that name, as soon as it is there.
   * @throws ToolError after 15 s; what `fail` was given
   */
  wait(way: Way, name: string): Promise<Arrival>;
  /** Ends every wait with the error. The first counts. */
  fail(error: Error): void;
}

export interface BoardOptions {
  /** @default 15_000 (ms) */
  readonly patienceMs?: number;
  /** Monotonic milliseconds. @default performance.now */
  readonly now?: () => number;
}

export function createBoard({ patienceMs = 15_000, now = () => performance.now() }: BoardOptions = {}): Board {
  const arrivals = new Map<string, Arrival>();
  let failure: Error | undefined;
  let news = Promise.withResolvers<void>();
  const tell = () => {
    news.resolve();
    news = Promise.withResolvers();
  };
  const find = (way: Way, name: string) => arrivals.get(`${way} ${name}`);
  return {
    find,
    arrived(way, event) {
      const key = `${way} ${event.name}`;
      if (!arrivals.has(key)) arrivals.set(key, { event, atMs: now() });
      tell();
    },
    fail(error) {
      failure ??= error;
      tell();
    },
    async wait(way, name) {
      let isLate = false;
      const timer = setTimeout(() => {
        isLate = true;
        tell();
      }, patienceMs);
      try {
        for (;;) {
          const found = find(way, name);
          if (found !== undefined) return found;
          if (failure !== undefined) throw failure;
          if (isLate) throw new LateError(way, name, patienceMs);
          await news.promise;
        }
      } finally {
        clearTimeout(timer);
      }
    },
  };
}

/** An event that did not come in time. */
export class LateError extends ToolError {
  readonly way: Way;

  constructor(way: Way, name: string, patienceMs: number) {
    super(`${name} did not come by ${way} within ${patienceMs / 1_000} s`);
    this.way = way;
  }
}
