import type { Database } from '../database/connect.ts';
import { type Claim, type ClaimLimits, claimDeliveries } from './claim.ts';
import type { Lanes } from './lanes.ts';
import type { Leases } from './leases.ts';
import { createRoom } from './room.ts';
import { createWalkPace } from './walk-pace.ts';
import type { WorkerLimits } from './worker-limits.ts';

export interface ClaimingDeps {
  readonly database: Database;
  /** Who claims. */
  readonly holder: string;
  readonly limits: Pick<WorkerLimits, 'maxInFlight' | 'maxAhead' | 'webhookCap' | 'accountCap' | 'leaseMs'>;
  /** Of claims that are being prepared, wait in their lanes, or are attempted. */
  readonly leases: Pick<Leases, 'size' | 'byWebhook' | 'hold'>;
  readonly lanes: Pick<Lanes, 'capOf' | 'reachOf' | 'ahead'>;
}

/** Claims for a worker what it has room for, and knows when it is worth to claim again. */
export interface Claiming {
  /**
   * Claims what is due and holds it: of all webhooks, or, between two such walks, of those whose turn it has.
   * @param isComplete of all, however soon after the last walk @default false
   */
  claim(isComplete?: boolean): Promise<Haul>;
  /** When the last claim began, monotonic; 0 before it. */
  readonly lastAtMs: number;
  /** Something may be due, of whichever webhook: the next claim looks at all, as soon as it may. */
  noteHint(): void;
  /**
   * Whether there may be more to claim now that these are in their lanes, or have ended: where they were all that their webhook might
   * have, or have made room. A backlog is claimed piece by piece while the piece before is sent.
   * @param freed how many of them are in no lane
   */
  notePrepared(claims: readonly Claim[], freed: number): boolean;
  /**
   * Whether the end of this claim, dropped already, means that there is more to claim. What was not there at the last claim is told by
   * a hint, or found by the poll: only who was full has more to ask for, or who lets the next of its subject go.
   */
  noteEnd(claim: Pick<Claim, 'webhookId' | 'subject'>): boolean;
  /** Its window was small, and is larger when the attempt is recorded: the end of its claim counts as of one that was full. */
  noteGrowth(webhookId: string): void;
}

/** What a claim has brought. */
export interface Haul {
  /** Those to begin: without what was held from before. */
  readonly fresh: readonly Claim[];
  readonly claimed: number;
  /** How many could have been claimed. */
  readonly limit: number;
  /** Until all webhooks may be looked at again, where they were to be and were not: what they have is found then. */
  readonly walkInMs: number | undefined;
}

/** What is due by time alone, as retries are, is found so soon also while claims for more follow each other. */
const WALK_EVERY_MS = 250;

/** Does nothing until it is asked to. */
export function createClaiming({ database, holder, limits, leases, lanes }: ClaimingDeps): Claiming {
  const { maxInFlight, maxAhead, webhookCap, accountCap, leaseMs } = limits;
  /** Webhooks whose turn was taken here. */
  const turns = new Set<string>();
  const room = createRoom({ leases, lanes });
  const pace = createWalkPace();
  /** The last claim took all that there was room for, of all webhooks or of these: there may be more. */
  let isFull = false;
  let full = new Set<string>();
  let lastAtMs = 0;
  let walkedAtMs = 0;
  /** Why the next claim is made. By the poll, without either, it is as with a hint. */
  let isHinted = false;
  let isForMore = false;

  async function claim(isComplete = false): Promise<Haul> {
    const places = room.countPlaces();
    const limit = maxInFlight - places.taken;
    const atMs = performance.now();
    const isForAll = isHinted || !isForMore;
    isHinted = false;
    isForMore = false;
    const restMs = isComplete ? 0 : Math.max(pace.restMs(atMs), isForAll ? 0 : walkedAtMs + WALK_EVERY_MS - atMs);
    const walkInMs = isForAll && restMs > 0 ? restMs : undefined;
    const only = restMs > 0 ? room.listHungry(turns) : undefined;
    // where there is no room the end of an attempt wakes the loop
    if (limit <= 0 || only?.length === 0) return { fresh: [], claimed: 0, limit, walkInMs };
    const aheadLimit = Math.max(maxAhead - (leases.size - places.taken), 0);
    const left = room.countLeft(turns);
    const claims = await claimInTurn({ limit, aheadLimit, ahead: room.countAhead(), busy: places.busy, only });
    pace.note({ atMs, endedAtMs: performance.now(), claimed: claims.length, isWalk: only === undefined });
    lastAtMs = atMs;
    if (only === undefined) walkedAtMs = atMs;
    const fresh = leases.hold(claims, atMs);
    isFull = claims.length >= limit;
    full = new Set(room.listFilled(claims, left));
    return { fresh, claimed: claims.length, limit, walkInMs };
  }

  /** Gives up the turns of webhooks that it has nothing of any more. */
  async function claimInTurn(
    some: Pick<ClaimLimits, 'only' | 'limit' | 'aheadLimit' | 'ahead' | 'busy'>,
  ): Promise<readonly Claim[]> {
    const idle = [...turns].filter((webhookId) => !leases.byWebhook().has(webhookId));
    const reserved = Math.floor(maxInFlight / 4);
    const claims = await claimDeliveries(database, {
      ...some,
      ...{ holder, reserved, leaseMs, webhookCap, accountCap, idle },
    });
    for (const webhookId of idle) turns.delete(webhookId);
    for (const { webhookId } of claims) turns.add(webhookId);
    return claims;
  }

  return {
    claim,
    get lastAtMs() {
      return lastAtMs;
    },
    noteHint() {
      isHinted = true;
    },
    notePrepared(claims, freed) {
      const isMore = freed > 0 || claims.some(({ webhookId }) => full.has(webhookId));
      if (isMore) isForMore = true;
      return isMore;
    },
    noteEnd({ webhookId, subject }) {
      const isMore = subject !== null || (full.has(webhookId) && room.isHungry(webhookId));
      if (isMore) isForMore = true;
      if (isFull) isHinted = true;
      return isFull || isMore;
    },
    noteGrowth: (webhookId) => void full.add(webhookId),
  };
}
