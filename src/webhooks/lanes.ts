import { createOriginGates, type OriginGate } from './origin-gates.ts';
import type { ReadyDelivery } from './prepare.ts';

export interface LaneLimits {
  /** Attempts under way in this process. */
  readonly maxInFlight: number;
  /** To one webhook, unless it has a number of its own. */
  readonly webhookCap: number;
  /** For one account. */
  readonly accountCap: number;
  /** Begun per second to one origin, for all webhooks. */
  readonly originRate: number;
}

/** How an attempt went. */
export interface Fared {
  readonly durationMs: number;
  readonly outcome: 'succeeded' | 'failed' | 'busy';
}

/**
 * What is ready to be sent, in a lane for each webhook, in the order in which it was put there. A lane has as many attempts
 * under way as its webhook's cap says, if its account and the process have room for them. A lane whose attempts are short may
 * hold what it will get to within {@link AHEAD_MS}; one whose receiver fails, is busy or silent gives that back. Lanes of one
 * origin begin no more a second than its rate: they wait in line, and what there is no room for in the line is postponed. What
 * waits there takes no place of what could be begun.
 */
export interface Lanes {
  /** Begins what may begin. */
  put(ready: readonly ReadyDelivery[]): void;
  /** Nothing waits, and nothing is under way. */
  readonly isEmpty: boolean;
  /** Attempts that may be under way to a webhook at once; those that are, while it waits for its origin. */
  capOf(webhookId: string): number;
  /** How many of its first due ones a webhook may have claimed: its cap, or more; 0 while its origin's rate is used up. */
  reachOf(webhookId: string): number;
  /** Those that are not the cap, by webhook. */
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
  /** Hands back what its origin does not let through before. */
  postpone(postponed: readonly Postponed[]): void;
}

export interface Postponed {
  readonly ready: ReadyDelivery;
  readonly delayMs: number;
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
  url: string;
  gate: OriginGate<Lane>;
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
  const gates = createOriginGates<Lane>({ perSecond: limits.originRate, resume: begin });
  let inFlight = 0;
  let isClosed = false;

  function laneOf({ webhook }: ReadyDelivery): Lane {
    const known = lanes.get(webhook.id);
    const cap = webhook.max_in_flight ?? limits.webhookCap;
    const lane: Lane = known ?? {
      webhookId: webhook.id,
      accountId: webhook.account_id,
      url: webhook.url,
      gate: gates.join(webhook.url),
      cap,
      queue: [],
      inFlight: 0,
      failures: 0,
      durationMs: undefined,
      usedAtMs: 0,
    };
    lane.cap = cap;
    if (lane.url !== webhook.url) lead(lane, webhook.url);
    lanes.set(webhook.id, lane);
    return lane;
  }

  /** To another URL, which may have the same origin. */
  function lead(lane: Lane, url: string): void {
    const { gate } = lane;
    lane.url = url;
    lane.gate = gates.join(url);
    gate.forget(lane);
    gate.leave();
  }

  function begin(lane: Lane): void {
    while (lane.inFlight < lane.cap && lane.queue.length > 0) {
      if (!hasRoom(lane)) {
        blocked.add(lane);
        return;
      }
      if (!lane.gate.admits(lane)) break;
      const next = lane.queue.shift();
      if (next !== undefined) start(lane, next.ready);
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

  function reachOf({ gate, cap, durationMs, failures }: Lane): number {
    if (gate.waiting.size > 0) return 0;
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
      const short = new Set<OriginGate<Lane>>();
      for (const lane of filled) {
        begin(lane);
        if (lane.gate.waiting.size > 0) short.add(lane.gate);
      }
      const postponed = [...short].flatMap(overflowOf);
      if (postponed.length > 0) actions.postpone(postponed);
    },
    get isEmpty() {
      return inFlight === 0 && [...lanes.values()].every(({ queue }) => queue.length === 0);
    },
    capOf(webhookId) {
      const lane = lanes.get(webhookId);
      if (lane === undefined) return limits.webhookCap;
      return lane.gate.waiting.has(lane) ? lane.inFlight : lane.cap;
    },
    reachOf(webhookId) {
      const lane = lanes.get(webhookId);
      return lane === undefined ? limits.webhookCap : reachOf(lane);
    },
    ahead() {
      const reaches = [...lanes.values()].map((lane) => [lane.webhookId, reachOf(lane), lane.cap] as const);
      return new Map(reaches.flatMap(([id, reach, cap]) => (reach > cap || reach === 0 ? [[id, reach] as const] : [])));
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
        if (isIdle && nowMs - lane.usedAtMs > FORGET_MS) {
          lanes.delete(lane.webhookId);
          lane.gate.leave();
        }
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
    lane.gate.forget(lane);
    return left;
  }

  /** Takes out what there is no room for in the line, so that each lane in it keeps an equal share. */
  function overflowOf(gate: OriginGate<Lane>): Postponed[] {
    const line = [...gate.waiting];
    if (line.reduce((sum, { queue }) => sum + queue.length, 0) <= gate.room) return [];
    const share = Math.max(Math.floor(gate.room / line.length), 1);
    return line.flatMap((lane, at) => {
      const over = lane.queue.splice(at < gate.room ? share : 0);
      if (lane.queue.length === 0) gate.forget(lane);
      return over.map(({ ready }) => ({ ready, delayMs: gate.postpone() }));
    });
  }
}
