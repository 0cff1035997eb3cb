import type { Database } from '../database/connect.ts';
import { type Claim, type ClaimLimits, claimDeliveries } from './claim.ts';
import type { Lanes } from './lanes.ts';
import type { Leases } from './leases.ts';
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

/** Places that are taken: what is claimed beyond a webhook's cap waits for one of its webhook's. */
interface Places {
  /** By account. */
  readonly busy: ReadonlyMap<string, number>;
  readonly taken: number;
}

/** Of a webhook that is not at hand, whose cap is not known here. */
const UNKNOWN_ROOM = 2;
/** What is due by time alone, as retries are, is found so soon also while claims for more follow each other. */
const WALK_EVERY_MS = 250;

/** Does nothing until it is asked to. */
export function createClaiming({ database, holder, limits, leases, lanes }: ClaimingDeps): Claiming {
  const { maxInFlight, maxAhead, webhookCap, accountCap, leaseMs } = limits;
  /** Webhooks whose turn was taken here. */
  const turns = new Set<string>();
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
    const places = countPlaces();
    const limit = maxInFlight - places.taken;
    const atMs = performance.now();
    const isForAll = isHinted || !isForMore;
    isHinted = false;
    isForMore = false;
    const restMs = isComplete ? 0 : Math.max(pace.restMs(atMs), isForAll ? 0 : walkedAtMs + WALK_EVERY_MS - atMs);
    const walkInMs = isForAll && restMs > 0 ? restMs : undefined;
    const only = restMs > 0 ? listHungry() : undefined;
    // where there is no room the end of an attempt wakes the loop
    if (limit <= 0 || only?.length === 0) return { fresh: [], claimed: 0, limit, walkInMs };
    const aheadLimit = Math.max(maxAhead - (leases.size - places.taken), 0);
    const room = countRoomLeft();
    const claims = await claimInTurn({ limit, aheadLimit, ahead: countRoom(), busy: places.busy, only });
    pace.note({ atMs, endedAtMs: performance.now(), claimed: claims.length, isWalk: only === undefined });
    lastAtMs = atMs;
    if (only === undefined) walkedAtMs = atMs;
    const fresh = leases.hold(claims, atMs);
    isFull = claims.length >= limit;
    full = new Set(listFilled(claims, room));
    return { fresh, claimed: claims.length, limit, walkInMs };
  }

  /** Webhooks of which it has something, and room for more. */
  function listHungry(): string[] {
    const sated = new Set(listFull());
    return [...turns].filter((id) => !sated.has(id));
  }

  function countPlaces(): Places {
    const busy = new Map<string, number>();
    let taken = 0;
    for (const [webhookId, { accountId, count }] of leases.byWebhook()) {
      const ofWebhook = Math.min(count, lanes.capOf(webhookId));
      busy.set(accountId, (busy.get(accountId) ?? 0) + ofWebhook);
      taken += ofWebhook;
    }
    return { busy, taken };
  }

  /** What each webhook may have claimed, where that is not its cap; those that have it are left out. */
  function countRoom(): ReadonlyMap<string, number> {
    return new Map([...lanes.ahead(), ...listFull().map((id) => [id, 0] as const)]);
  }

  /** Webhooks that have as much claimed as they may, at this moment: a claim makes some full, ends make others not. */
  function listFull(): string[] {
    return [...leases.byWebhook()].flatMap(([id, { count }]) => (count >= lanes.reachOf(id) ? [id] : []));
  }

  /** How many more each webhook at hand may have. */
  function countRoomLeft(): ReadonlyMap<string, number> {
    const held = leases.byWebhook();
    return new Map([...turns].map((id) => [id, lanes.reachOf(id) - (held.get(id)?.count ?? 0)]));
  }

  /**
   * Webhooks that got as much as they had room for when the claim began: meanwhile some of what they had has ended. Of those that were not
   * at hand more than one says enough.
   */
  function listFilled(claims: readonly Claim[], room: ReadonlyMap<string, number>): string[] {
    const counts = [...Map.groupBy(claims, ({ webhookId }) => webhookId)];
    const filled = counts.flatMap(([id, of]) => (of.length >= (room.get(id) ?? UNKNOWN_ROOM) ? [id] : []));
    return [...filled, ...listFull()];
  }

  /** Gives up the turns of webhooks that it has nothing of any more. */
  async function claimInTurn(
    room: Pick<ClaimLimits, 'only' | 'limit' | 'aheadLimit' | 'ahead' | 'busy'>,
  ): Promise<readonly Claim[]> {
    const idle = [...turns].filter((webhookId) => !leases.byWebhook().has(webhookId));
    const reserved = Math.floor(maxInFlight / 4);
    const claims = await claimDeliveries(database, {
      ...room,
      ...{ holder, reserved, leaseMs, webhookCap, accountCap, idle },
    });
    for (const webhookId of idle) turns.delete(webhookId);
    for (const { webhookId } of claims) turns.add(webhookId);
    return claims;
  }

  /** A lane that holds more than its cap gets the next before it is empty, but not by ones and twos; one that waits for its origin gets none. */
  function isHungry(webhookId: string): boolean {
    const held = leases.byWebhook().get(webhookId)?.count ?? 0;
    const reach = lanes.reachOf(webhookId);
    return reach > 0 && (held * 2 <= reach || reach <= lanes.capOf(webhookId));
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
      const isMore = subject !== null || (full.has(webhookId) && isHungry(webhookId));
      if (isMore) isForMore = true;
      if (isFull) isHinted = true;
      return isFull || isMore;
    },
    noteGrowth: (webhookId) => void full.add(webhookId),
  };
}
