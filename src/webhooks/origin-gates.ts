import { originOf } from './origin.ts';

export interface OriginGateOptions<Waiter> {
  /** Requests begun to one origin. */
  readonly perSecond: number;
  /** Called for one that waits when it may go on, in the order in which they came. It asks again, until it has what it wants or waits anew. */
  readonly resume: (waiter: Waiter) => void;
}

/** A gate for each origin. */
export interface OriginGates<Waiter> {
  /** The gate of a URL's origin, the same for all who join; one that all have left is forgotten. */
  join(url: string): OriginGate<Waiter>;
}

/**
 * Lets so many requests a second begin to one origin, whoever asks for it. Of what is not used at most {@link SAVED_MS} are saved up.
 * Says nothing of requests that are under way already, nor of other processes.
 */
export interface OriginGate<Waiter> {
  /** Whether one request may begin; if not, the waiter is in line. Who is in line already keeps its place. */
  admits(waiter: Waiter): boolean;
  /** Those in line, first come first. */
  readonly waiting: ReadonlySet<Waiter>;
  /** Takes it out of the line. */
  forget(waiter: Waiter): void;
  /** How many requests may wait here: it gets to them within {@link PATIENCE_MS}. */
  readonly room: number;
  /** For one request that finds no room: after how many milliseconds to come again. A later one each time, as fast as the gate lets them through. */
  postpone(): number;
  leave(): void;
}

const SAVED_MS = 100;
const PATIENCE_MS = 250;
/** A line that is longer is not known to its end: with another rate or another URL they would wait for nothing. */
const MAX_POSTPONED_MS = 60_000;
/** From one look at the line to the next: one for each request would cost more. */
const GATHER_MS = 5;

export function createOriginGates<Waiter>({ perSecond, resume }: OriginGateOptions<Waiter>): OriginGates<Waiter> {
  const gates = new Map<string, { readonly gate: OriginGate<Waiter>; members: number }>();

  return {
    join(url) {
      const origin = originOf(url);
      const leave = () => {
        const entry = gates.get(origin);
        if (entry !== undefined && --entry.members === 0) gates.delete(origin);
      };
      const entry = gates.get(origin) ?? { gate: { ...createGate({ perSecond, resume }), leave }, members: 0 };
      entry.members += 1;
      gates.set(origin, entry);
      return entry.gate;
    },
  };
}

function createGate<Waiter>({ perSecond, resume }: OriginGateOptions<Waiter>): Omit<OriginGate<Waiter>, 'leave'> {
  const perMs = perSecond / 1_000;
  const most = Math.max(perMs * SAVED_MS, 1);
  const room = Math.max(Math.floor(perMs * PATIENCE_MS), 1);
  const waiting = new Set<Waiter>();
  let left = most;
  let countedAtMs = performance.now();
  let postponedToMs = 0;
  let timer: NodeJS.Timeout | undefined;
  let isServing = false;

  function count(): number {
    const nowMs = performance.now();
    left = Math.min(left + (nowMs - countedAtMs) * perMs, most);
    countedAtMs = nowMs;
    return left;
  }

  /** Who comes while others wait does not overtake them. */
  function mayTake(): boolean {
    return (waiting.size === 0 || isServing) && count() >= 1;
  }

  function serve(): void {
    timer = undefined;
    isServing = true;
    for (const waiter of waiting) {
      if (count() < 1) break;
      waiting.delete(waiter); // who takes what is left is in line again, at its end
      resume(waiter);
    }
    isServing = false;
    if (waiting.size > 0) wait();
  }

  function wait(): void {
    timer ??= setTimeout(serve, Math.max((1 - left) / perMs, GATHER_MS));
  }

  return {
    waiting,
    room,
    admits(waiter) {
      if (mayTake()) {
        left -= 1;
        return true;
      }
      waiting.add(waiter);
      if (!isServing) wait();
      return false;
    },
    forget(waiter) {
      waiting.delete(waiter);
      if (waiting.size > 0) return;
      clearTimeout(timer);
      timer = undefined;
    },
    postpone() {
      const nowMs = performance.now();
      postponedToMs = Math.min(Math.max(postponedToMs, nowMs + PATIENCE_MS) + 1 / perMs, nowMs + MAX_POSTPONED_MS);
      return Math.ceil(postponedToMs - nowMs);
    },
  };
}
