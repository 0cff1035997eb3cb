import type { Claim } from './claim.ts';
import type { Lanes } from './lanes.ts';
import type { Leases } from './leases.ts';

export interface RoomDeps {
  /** Of claims that are being prepared, wait in their lanes, or are attempted. */
  readonly leases: Pick<Leases, 'byWebhook'>;
  readonly lanes: Pick<Lanes, 'capOf' | 'reachOf' | 'ahead'>;
}

/** Places that are taken: what is claimed beyond a webhook's cap waits for one of its webhook's. */
export interface Places {
  /** By account. */
  readonly busy: ReadonlyMap<string, number>;
  readonly taken: number;
}

/** What a worker has room for, by what it holds at the moment. */
export interface Room {
  countPlaces(): Places;
  /** What each webhook may have claimed, where that is not its cap; those that have it are left out. */
  countAhead(): ReadonlyMap<string, number>;
  /** How many more each of these webhooks may have. */
  countLeft(webhookIds: Iterable<string>): ReadonlyMap<string, number>;
  /**
   * Webhooks that got as much as they had room for when the claim began: meanwhile some of what they had has ended. Of those that were
   * not at hand then more than one says enough.
   */
  listFilled(claims: readonly Claim[], left: ReadonlyMap<string, number>): string[];
  /** Those of these webhooks that have room for more. */
  listHungry(webhookIds: Iterable<string>): string[];
  /** A lane that holds more than its cap gets the next before it is empty, but not by ones and twos; one that waits for its origin gets none. */
  isHungry(webhookId: string): boolean;
}

/** Of a webhook that is not at hand, whose cap is not known here. */
const UNKNOWN_ROOM = 2;

/** Keeps nothing itself. */
export function createRoom({ leases, lanes }: RoomDeps): Room {
  function listHungry(webhookIds: Iterable<string>): string[] {
    const sated = new Set(listFull());
    return [...webhookIds].filter((id) => !sated.has(id));
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

  function countAhead(): ReadonlyMap<string, number> {
    return new Map([...lanes.ahead(), ...listFull().map((id) => [id, 0] as const)]);
  }

  /** Webhooks that have as much claimed as they may, at this moment: a claim makes some full, ends make others not. */
  function listFull(): string[] {
    return [...leases.byWebhook()].flatMap(([id, { count }]) => (count >= lanes.reachOf(id) ? [id] : []));
  }

  function countLeft(webhookIds: Iterable<string>): ReadonlyMap<string, number> {
    const held = leases.byWebhook();
    return new Map([...webhookIds].map((id) => [id, lanes.reachOf(id) - (held.get(id)?.count ?? 0)]));
  }

  function listFilled(claims: readonly Claim[], left: ReadonlyMap<string, number>): string[] {
    const counts = [...Map.groupBy(claims, ({ webhookId }) => webhookId)];
    const filled = counts.flatMap(([id, of]) => (of.length >= (left.get(id) ?? UNKNOWN_ROOM) ? [id] : []));
    return [...filled, ...listFull()];
  }

  function isHungry(webhookId: string): boolean {
    const held = leases.byWebhook().get(webhookId)?.count ?? 0;
    const reach = lanes.reachOf(webhookId);
    return reach > 0 && (held * 2 <= reach || reach <= lanes.capOf(webhookId));
  }

  return { countPlaces, countAhead, countLeft, listFilled, listHungry, isHungry };
}
