import type { Database } from '../database/connect.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Observe } from '../runtime/observe.ts';
import { type Claim, renewClaims } from './claim.ts';

export interface LeaseOptions {
  /** Who claims. */
  readonly holder: string;
  readonly database: Database;
  readonly clock: Clock;
  readonly observe: Observe;
  /** How long a claim outlives the process that holds it; renewed four times as often. */
  readonly leaseMs: number;
  /** How long a claim's lease is renewed. */
  readonly holdMs: number;
  /** The longest that an attempt may take: one is not begun with less than this left of `holdMs`. */
  readonly attemptMs: number;
}

/**
 * The claims that a worker holds. A claim's lease is short, so that what a killed process held goes out again within
 * seconds, and renewed while the process lives, so that a slow receiver does not cost it: under the claim's generation, so
 * that who was frozen never lengthens the lease of the next owner.
 */
export interface Leases {
  readonly size: number;
  /** How many are held, by webhook. */
  byWebhook(): ReadonlyMap<string, HeldOfWebhook>;
  /**
   * @param claimedAtMs monotonic, taken before the claim
   * @returns those to begin. A delivery that is still held from before, because its lease ran out while the database was
   * away, is not sent beside itself: what comes of it counts under the new claim's generation.
   */
  hold(claims: readonly Claim[], claimedAtMs: number): readonly Claim[];
  drop(claim: Claim): void;
  /** The claim under its newest generation, to record its result by; a later one of the same delivery is a new one. */
  close(claim: Claim): Claim;
  /** Whether the claim is too old for an attempt to end within `holdMs`. */
  isLate(claim: Claim): boolean;
  /** Whether an attempt may begin now. Renews a lease that may have run out, and says no if another process has the claim. */
  mayBegin(claim: Claim): Promise<boolean>;
  /** Resolves when nothing is held and no renewal is under way. */
  ended(): Promise<void>;
}

export interface HeldOfWebhook {
  readonly accountId: string;
  readonly count: number;
}

interface Held {
  /** As it was begun. */
  readonly origin: Claim;
  /** Under its newest generation. */
  claim: Claim;
  /** Not with the recorder yet. */
  isOpen: boolean;
  readonly claimedAtMs: number;
  /** Monotonic, from before the statement that renewed it. */
  renewedAtMs: number;
}

/** Renews by itself as long as it holds anything. */
export function createLeases(options: LeaseOptions): Leases {
  const { holder, database, clock, observe, leaseMs, holdMs, attemptMs } = options;
  const everyMs = leaseMs / 4;
  /** By account and id. */
  const held = new Map<string, Held>();
  const counts = new Map<string, HeldOfWebhook>();
  let empty = new AbortController();
  let renewing: Promise<void> | undefined;

  async function renewWhileHeld(): Promise<void> {
    let failures = 0;
    while (held.size > 0) {
      await clock.wait(everyMs, empty.signal);
      try {
        await renewDue();
        failures = 0;
      } catch (error) {
        failures += 1;
        if (failures === 1 && held.size > 0)
          observe({ name: 'delivery.lease_failed', level: 'warn', deliveries: held.size, error });
      }
    }
    renewing = undefined;
  }

  /** Most attempts end before their lease is due for the first time. */
  async function renewDue(): Promise<void> {
    const nowMs = performance.now();
    await renew([...held.values()].filter((each) => nowMs - each.renewedAtMs >= everyMs / 2 && !isOver(each, nowMs)));
  }

  async function renew(due: readonly Held[]): Promise<void> {
    if (due.length === 0) return;
    const nowMs = performance.now();
    const claims = due.map(({ claim }) => claim);
    const renewed = await renewClaims(database, claims, { holder, leaseMs });
    for (const [at, each] of due.entries()) {
      // unless it was claimed anew meanwhile
      if (renewed.has(each.claim.id) && each.claim === claims[at]) each.renewedAtMs = nowMs;
    }
  }

  function isOver({ claimedAtMs }: Held, nowMs: number): boolean {
    return nowMs - claimedAtMs >= holdMs;
  }

  function mayHaveRunOut({ renewedAtMs }: Held): boolean {
    return performance.now() > renewedAtMs + leaseMs - everyMs;
  }

  /** One that is with the recorder yet makes room for the new claim of the same delivery. */
  function add(claim: Claim, claimedAtMs: number): void {
    if (!held.has(keyOf(claim))) count(claim, 1);
    held.set(keyOf(claim), { origin: claim, claim, isOpen: true, claimedAtMs, renewedAtMs: claimedAtMs });
  }

  function count({ webhookId, accountId }: Claim, by: 1 | -1): void {
    const now = (counts.get(webhookId)?.count ?? 0) + by;
    if (now === 0) counts.delete(webhookId);
    else counts.set(webhookId, { accountId, count: now });
  }

  function entryOf(claim: Claim): Held | undefined {
    const each = held.get(keyOf(claim));
    return each?.origin === claim ? each : undefined;
  }

  function hasTime({ claimedAtMs }: Held): boolean {
    return performance.now() <= claimedAtMs + holdMs - attemptMs;
  }

  return {
    get size() {
      return held.size;
    },
    byWebhook: () => counts,
    hold(claims, claimedAtMs) {
      if (empty.signal.aborted) empty = new AbortController();
      const fresh = claims.filter((claim) => {
        const before = held.get(keyOf(claim));
        if (before?.isOpen) Object.assign(before, { claim, renewedAtMs: claimedAtMs });
        else add(claim, claimedAtMs);
        return !before?.isOpen;
      });
      if (held.size > 0) renewing ??= renewWhileHeld(); // never rejects: what fails is observed
      return fresh;
    },
    drop(claim) {
      if (entryOf(claim) !== undefined && held.delete(keyOf(claim))) count(claim, -1);
      if (held.size === 0) empty.abort();
    },
    close(claim) {
      const each = entryOf(claim);
      if (each === undefined) return claim;
      each.isOpen = false;
      each.claim.bodyKey ??= claim.bodyKey;
      return each.claim;
    },
    isLate(claim) {
      const each = entryOf(claim);
      return each === undefined || !hasTime(each);
    },
    async mayBegin(claim) {
      const each = entryOf(claim);
      if (each === undefined || !hasTime(each)) return false;
      if (mayHaveRunOut(each)) await renew([each]).catch(() => {}); // what can't be renewed is not begun
      return !mayHaveRunOut(each);
    },
    ended: async () => renewing,
  };
}

function keyOf({ accountId, id }: Claim): string {
  return `${accountId} ${id}`;
}
