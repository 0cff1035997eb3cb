import type { ReadyDelivery } from './prepare.ts';

export interface LaneLimits {
  /** Attempts under way in this process. */
  readonly maxInFlight: number;
  /** To one webhook, unless it has a number of its own. */
  readonly webhookCap: number;
  /** For one account. */
  readonly accountCap: number;
}

/** How an attempt went. */
export interface Fared {
  readonly durationMs: number;
  readonly outcome: 'succeeded' | 'failed' | 'busy';
}

/**
 * What is ready to be sent, in a lane for each webhook, in the order in which it was put there. A lane has as many attempts
 * under way as its webhook's cap says, if its account and the process have room for them. A lane whose attempts are short may
 * hold what it will get to within {@link AHEAD_MS}; one whose receiver fails, is busy or silent gives that back.
 */
export interface Lanes {
  /** Begins what may begin. */
  put(ready: readonly ReadyDelivery[]): void;
  /** Nothing waits, and nothing is under way. */
  readonly isEmpty: boolean;
  /** Attempts that may be under way to a webhook at once. */
  capOf(webhookId: string): number;
  /** How many of its first due ones a webhook may have claimed: its cap, or more. */
  reachOf(webhookId: string): number;
  /** Those that are more than the cap, by webhook. */
  ahead(): ReadonlyMap<string, number>;
  /** Takes out what has waited for over a second: its receiver has become slow. */
  takeStale(): ReadyDelivery[];
  /** Takes out all that has not begun; what is put from now on comes back as well. */
  close(): ReadyDelivery[];
}

export interface LaneActions {
  /** Makes the attempt. Never rejects. */
  attempt(ready: ReadyDelivery): Promise<Fared>;
  /** Hands back what is not to be begun after all. */
  giveBack(ready: readonly ReadyDelivery[]): void;
}

/** What a lane may hold is what it gets to in that time, at the pace of its last attempts. */
const AHEAD_MS = 200;
/** In one lane. */
const MAX_AHEAD = 512;
const STALE_MS = 1_000;
/** Failures in a row after which nothing is held ahead. */
const FAILURES = 5;
/** A lane without work is forgotten after so long, its pace with it. */
const FORGET_MS = 30_000;

interface Waiting {
  readonly ready: ReadyDelivery;
  readonly sinceMs: number;
}

interface Lane {
  readonly webhookId: string;
  readonly accountId: string;
  cap: number;
  queue: Waiting[];
  inFlight: number;
  failures: number;
  /** Moving average; undefined until an attempt has ended. */
  durationMs: number | undefined;
  usedAtMs: number;
}

export function createLanes(limits: LaneLimits, actions: LaneActions): Lanes {
  const lanes = new Map<string, Lane>();
  const accounts = new Map<string, number>();
  /** Lanes with room of their own that wait for the account's, or the process's. */
  const blocked = new Set<Lane>();
  let inFlight = 0;
  let isClosed = false;

  function laneOf({ webhook }: ReadyDelivery): Lane {
    const known = lanes.get(webhook.id);
    const cap = webhook.max_in_flight ?? limits.webhookCap;
    const lane = known ?? {
      webhookId: webhook.id,
      accountId: webhook.account_id,
      cap,
      queue: [],
      inFlight: 0,
      failures: 0,
      durationMs: undefined,
      usedAtMs: 0,
    };
    lane.cap = cap;
    lanes.set(webhook.id, lane);
    return lane;
  }

  function begin(lane: Lane): void {
    while (lane.inFlight < lane.cap) {
      if (!hasRoom(lane)) {
        if (lane.queue.length > 0) blocked.add(lane);
        return;
      }
      const next = lane.queue.shift();
      if (next === undefined) break;
      start(lane, next.ready);
    }
    blocked.delete(lane);
  }

  function hasRoom({ accountId }: Lane): boolean {
    return inFlight < limits.maxInFlight && (accounts.get(accountId) ?? 0) < limits.accountCap;
  }

  function start(lane: Lane, ready: ReadyDelivery): void {
    count(lane, 1);
    // not in the same turn: the connection of what has ended is not free before, and another would be opened
    void actions.attempt(ready).then((fared) => setImmediate(() => end(lane, fared)));
  }

  function end(lane: Lane, fared: Fared): void {
    count(lane, -1);
    note(lane, fared);
    begin(lane);
    for (const other of blocked) begin(other);
  }

  function count(lane: Lane, by: 1 | -1): void {
    const ofAccount = (accounts.get(lane.accountId) ?? 0) + by;
    if (ofAccount === 0) accounts.delete(lane.accountId);
    else accounts.set(lane.accountId, ofAccount);
    lane.inFlight += by;
    inFlight += by;
  }

  function note(lane: Lane, { durationMs, outcome }: Fared): void {
    lane.usedAtMs = performance.now();
    lane.durationMs = lane.durationMs === undefined ? durationMs : lane.durationMs * 0.9 + durationMs * 0.1;
    lane.failures = outcome === 'succeeded' ? 0 : lane.failures + 1;
    if (outcome !== 'busy' && lane.failures < FAILURES) return;
    const left = empty(lane);
    if (left.length > 0) actions.giveBack(left);
  }

  function reachOf({ cap, durationMs, failures }: Lane): number {
    if (durationMs === undefined || failures > 0) return cap;
    return Math.max(cap, Math.min(Math.round((cap * AHEAD_MS) / Math.max(durationMs, 0.1)), MAX_AHEAD));
  }

  return {
    put(ready) {
      if (isClosed && ready.length > 0) {
        actions.giveBack(ready);
        return;
      }
      const sinceMs = performance.now();
      const filled = new Set<Lane>();
      for (const each of ready) {
        const lane = laneOf(each);
        lane.queue.push({ ready: each, sinceMs });
        lane.usedAtMs = sinceMs;
        filled.add(lane);
      }
      for (const lane of filled) begin(lane);
    },
    get isEmpty() {
      return inFlight === 0 && [...lanes.values()].every(({ queue }) => queue.length === 0);
    },
    capOf: (webhookId) => lanes.get(webhookId)?.cap ?? limits.webhookCap,
    reachOf(webhookId) {
      const lane = lanes.get(webhookId);
      return lane === undefined ? limits.webhookCap : reachOf(lane);
    },
    ahead() {
      const reaches = [...lanes.values()].map((lane) => [lane.webhookId, reachOf(lane), lane.cap] as const);
      return new Map(reaches.flatMap(([id, reach, cap]) => (reach > cap ? [[id, reach] as const] : [])));
    },
    takeStale() {
      const nowMs = performance.now();
      const stale: ReadyDelivery[] = [];
      for (const lane of lanes.values()) {
        const [first] = lane.queue;
        if (first !== undefined && nowMs - first.sinceMs > STALE_MS) {
          lane.durationMs = undefined;
          stale.push(...empty(lane));
        }
        const isIdle = lane.inFlight === 0 && lane.queue.length === 0;
        if (isIdle && nowMs - lane.usedAtMs > FORGET_MS) lanes.delete(lane.webhookId);
      }
      return stale;
    },
    close() {
      isClosed = true;
      return [...lanes.values()].flatMap(empty);
    },
  };

  function empty(lane: Lane): ReadyDelivery[] {
    const left = lane.queue.map(({ ready }) => ready);
    lane.queue = [];
    blocked.delete(lane);
    return left;
  }
}
