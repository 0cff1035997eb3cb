import type { Server } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';

/** A WebSocket or an event stream, as the drain sees it. */
export interface Departing {
  /** Whether an answer is still to come: it is not sent away before, but at the deadline. */
  isBusy(): boolean;
  /** Sends its client away, to come back elsewhere. */
  sendAway(): void;
  /** Cuts off one that does not go. */
  terminate(): void;
}

export interface DrainOptions {
  readonly server: Server;
  /** What is open now; whatever has ended is left out. */
  readonly open: () => readonly Departing[];
  /** Clients are sent away over this time, in random order. */
  readonly windowMs: number;
  /** A number in [0, 1). @default Math.random */
  readonly random?: () => number;
}

/** Between two that are sent away, at most: a few clients are no herd. */
const MAX_GAP_MS = 100;
/** A client that was sent away may take this long to go. */
const PATIENCE_MS = 2_000;
/** Behind the window, for those sent away last and for answers. */
const GRACE_MS = 3_000;
const TICK_MS = 20;

/**
 * Empties a server that refuses new sockets and streams already. First its clients are sent away, spread over the window,
 * while the port still answers; then the port closes, and requests finish. Resolves when nothing is open any more: at once
 * where nothing was, and at the latest 3 s behind the window, when whatever is left is cut off.
 */
export async function drain({ server, open, windowMs, random = Math.random }: DrainOptions): Promise<void> {
  const deadlineMs = performance.now() + windowMs + GRACE_MS;
  await sendAway({ open, windowMs, deadlineMs, random });
  const state = { isClosed: false };
  const closed = new Promise<void>((resolve) => {
    server.close(() => {
      state.isClosed = true;
      resolve();
    });
  });
  while (!state.isClosed && performance.now() < deadlineMs) {
    server.closeIdleConnections(); // also those that have had their last answer meanwhile
    await Promise.race([closed, wait(TICK_MS)]);
  }
  for (const left of open()) left.terminate();
  server.closeAllConnections();
  await closed;
}

interface Departure {
  readonly departing: Departing;
  readonly dueMs: number;
  closedMs: number | undefined;
}

type SendAway = Required<Pick<DrainOptions, 'open' | 'windowMs' | 'random'>> & { readonly deadlineMs: number };

async function sendAway({ open, windowMs, deadlineMs, random }: SendAway): Promise<void> {
  const plan = schedule(open(), { windowMs, random });
  for (let left = open(); left.length > 0 && performance.now() < deadlineMs; left = open()) {
    const nowMs = performance.now();
    for (const departing of left) {
      // one that was being opened when the drain began has no turn of its own
      const departure = plan.get(departing) ?? { departing, dueMs: nowMs, closedMs: undefined };
      plan.set(departing, departure);
      advance(departure, nowMs);
    }
    await wait(TICK_MS);
  }
}

function schedule(
  open: readonly Departing[],
  { windowMs, random }: Pick<SendAway, 'windowMs' | 'random'>,
): Map<Departing, Departure> {
  const gapMs = Math.min(windowMs / Math.max(1, open.length), MAX_GAP_MS);
  const startMs = performance.now();
  const plan = new Map<Departing, Departure>();
  for (const [at, departing] of shuffled(open, random).entries())
    plan.set(departing, { departing, dueMs: startMs + at * gapMs, closedMs: undefined });
  return plan;
}

function advance(departure: Departure, nowMs: number): void {
  const { departing, dueMs, closedMs } = departure;
  if (closedMs !== undefined) {
    if (nowMs - closedMs > PATIENCE_MS) departing.terminate();
  } else if (nowMs >= dueMs && !departing.isBusy()) {
    departure.closedMs = nowMs;
    departing.sendAway();
  }
}

/** Fisher and Yates. */
function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const mixed = [...items];
  for (let at = mixed.length - 1; at > 0; at--) {
    const other = Math.floor(random() * (at + 1));
    [mixed[at], mixed[other]] = [mixed[other] as T, mixed[at] as T]; // both are places of the list
  }
  return mixed;
}
