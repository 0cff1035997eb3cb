import type { Database } from '../database/connect.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Observe } from '../runtime/observe.ts';
import { type Claim, renewClaims } from './claim.ts';

export interface LeaseOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly observe: Observe;
  /** How long a claim outlives the process that holds it; renewed four times as often. */
  readonly leaseMs: number;
  /** The longest that a claim is held: its lease is not renewed beyond. */
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
  /** How many are held for each account. */
  byAccount(): ReadonlyMap<string, number>;
  /** @param claimedAtMs monotonic, taken before the claim */
  hold(claims: readonly Claim[], claimedAtMs: number): void;
  drop(claim: Claim): void;
  /** Whether no attempt may begin any more: the claim is too old, or another process may have taken it over. */
  isLate(claim: Claim): boolean;
}

interface Held {
  readonly claim: Claim;
  readonly claimedAtMs: number;
  /** Monotonic, from before the statement that renewed it. */
  renewedAtMs: number;
}

/** Renews by itself as long as it holds anything. */
export function createLeases(options: LeaseOptions): Leases {
  const { database, clock, observe, leaseMs, holdMs, attemptMs } = options;
  const everyMs = leaseMs / 4;
  const held = new Map<Claim, Held>();
  let empty = new AbortController();
  let isRenewing = false;

  async function renewWhileHeld(): Promise<void> {
    if (isRenewing) return;
    isRenewing = true;
    let failures = 0;
    while (held.size > 0) {
      await clock.wait(everyMs, empty.signal);
      try {
        await renewDue();
        failures = 0;
      } catch (error) {
        failures += 1;
        if (failures === 1) observe({ name: 'delivery.lease_failed', level: 'warn', deliveries: held.size, error });
      }
    }
    isRenewing = false;
  }

  /** Most attempts end before their lease is due for the first time. */
  async function renewDue(): Promise<void> {
    const nowMs = performance.now();
    const due = [...held.values()].filter(
      (each) => nowMs - each.renewedAtMs >= everyMs / 2 && nowMs - each.claimedAtMs < holdMs,
    );
    if (due.length === 0) return;
    const renewed = await renewClaims(
      database,
      due.map(({ claim }) => claim),
      leaseMs,
    );
    for (const each of due) if (renewed.has(each.claim.id)) each.renewedAtMs = nowMs;
  }

  return {
    get size() {
      return held.size;
    },
    byAccount() {
      const counts = new Map<string, number>();
      for (const { accountId } of held.keys()) counts.set(accountId, (counts.get(accountId) ?? 0) + 1);
      return counts;
    },
    hold(claims, claimedAtMs) {
      if (empty.signal.aborted) empty = new AbortController();
      for (const claim of claims) held.set(claim, { claim, claimedAtMs, renewedAtMs: claimedAtMs });
      void renewWhileHeld(); // never rejects: what fails is observed
    },
    drop(claim) {
      held.delete(claim);
      if (held.size === 0) empty.abort();
    },
    isLate(claim) {
      const each = held.get(claim);
      const nowMs = performance.now();
      return (
        each === undefined ||
        nowMs > each.claimedAtMs + holdMs - attemptMs ||
        nowMs > each.renewedAtMs + leaseMs - everyMs
      );
    },
  };
}
