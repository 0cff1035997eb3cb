import type { Clock } from '../runtime/clock.ts';
import { createWakeup, runLoop } from '../runtime/loop.ts';
import type { Observe } from '../runtime/observe.ts';
import { type ConnectionLimit, shareOf } from './connections.ts';

/** What a process says of one owner: it holds so many places, and would like so many more. */
export interface Claim {
  readonly owner: string;
  readonly held: number;
  readonly wanted: number;
}

/** Where processes tell each other what they hold. */
export interface ConnectionStore {
  /**
   * Registers what is held, as it is, and grants of what is wanted as much as the limit leaves. An entry that is not
   * registered again runs out, so that a process that was killed gives its places back. Idempotent.
   * @returns places granted, claim by claim, and how many processes there are. Rejects within a bounded time
   */
  settle(claims: readonly Claim[]): Promise<{ readonly granted: readonly number[]; readonly nodes: number }>;
  /** Takes back what this process has registered for these owners. */
  leave(owners: readonly string[]): Promise<void>;
}

export interface LedgerOptions {
  readonly store: ConnectionStore;
  /** Connections of one owner, over all processes. */
  readonly limit: number;
  /** What is held is registered again this often; the store's entries live three times as long. */
  readonly renewMs: number;
  readonly observe: Observe;
  readonly clock: Clock;
}

/** Claims in one call of the store. */
const BATCH = 200;

/** One owner, as this process sees it. */
interface Entry {
  held: number;
  /** What the store was told last. */
  told: number;
  /** Takes that wait for the store's word. */
  readonly waiting: ((isGranted: boolean) => void)[];
}

/**
 * What one process holds, kept in step with a store by its absolute numbers: an answer that was lost, or a store that
 * forgot, is mended by the next call.
 *
 * States: *together* (takes wait for the store, one call at a time for all of them), *alone* (entered by a call that
 * failed: takes are answered at once out of this process's share of the limit; left when everything held is registered
 * again), *together but careful* (for one renewal after it: others may not have registered theirs yet, so the share
 * holds as well).
 */
export function createLedger({ store, limit, renewMs, observe, clock }: LedgerOptions): ConnectionLimit {
  const entries = new Map<string, Entry>();
  const unsettled = new Set<string>();
  const renewal = createWakeup();
  let nodes = 1;
  let isAlone = false;
  let carefulUntilMs = 0;
  let settling: Promise<void> | undefined;
  let isClosed = false;

  function entryOf(owner: string): Entry {
    const entry = entries.get(owner) ?? { held: 0, told: 0, waiting: [] };
    entries.set(owner, entry);
    return entry;
  }

  /** One at a time: a claim speaks for all that is held and wanted when it is sent. */
  function settle(): Promise<void> {
    settling ??= settleAll();
    return settling;
  }

  async function settleAll(): Promise<void> {
    try {
      do await settleBatch();
      while (unsettled.size > 0);
      if (!isAlone) return;
      isAlone = false;
      carefulUntilMs = clock.now() + renewMs;
    } catch (error) {
      goAlone();
      throw error;
    } finally {
      // in the same turn as the last look at what is unsettled, so that nothing can come in between
      settling = undefined;
    }
  }

  async function settleBatch(): Promise<void> {
    const batch = [...unsettled].slice(0, BATCH).map((owner) => ({ owner, entry: entryOf(owner) }));
    for (const { owner } of batch) unsettled.delete(owner);
    const claims = batch.map(({ owner, entry }) => ({ owner, held: entry.held, wanted: wantedBy(entry) }));
    const asked = batch.map(({ entry }) => entry.waiting.length);
    const answer = await store.settle(claims);
    nodes = isCareful() ? Math.max(nodes, answer.nodes) : answer.nodes;
    for (const [at, { owner, entry }] of batch.entries()) {
      const granted = answer.granted[at] ?? 0;
      entry.told = (claims[at]?.held ?? 0) + granted;
      answerWaiting(entry, { granted, asked: asked[at] ?? 0 });
      if (entry.held !== entry.told || entry.waiting.length > 0) unsettled.add(owner);
      else if (entry.held === 0) entries.delete(owner);
    }
  }

  function isCareful(): boolean {
    return isAlone || clock.now() < carefulUntilMs;
  }

  function wantedBy({ held, waiting }: Entry): number {
    return isCareful() ? Math.max(0, Math.min(waiting.length, shareOf(limit, nodes) - held)) : waiting.length;
  }

  function answerWaiting(entry: Entry, { granted, asked }: { readonly granted: number; readonly asked: number }): void {
    for (const [at, answer] of entry.waiting.splice(0, asked).entries()) {
      if (at < granted) entry.held++;
      answer(at < granted);
    }
  }

  function goAlone(): void {
    isAlone = true;
    unsettled.clear(); // all is told when the store is back
    for (const entry of entries.values()) for (const answer of entry.waiting.splice(0)) answer(takeOfShare(entry));
    renewal.wake();
  }

  function takeOfShare(entry: Entry): boolean {
    const hasRoom = entry.held < shareOf(limit, nodes);
    if (hasRoom) entry.held++;
    return hasRoom;
  }

  /** Also where nothing is held: the others shall know that this process is there. */
  async function renew(): Promise<'idle'> {
    for (const owner of entries.keys()) unsettled.add(owner);
    await settle();
    return 'idle';
  }

  /** A failure is known by `isAlone`, and reported by the loop, which tries again. */
  function settleSoon(owner: string): void {
    unsettled.add(owner);
    settle().catch(() => {});
  }

  return {
    async take(owner) {
      if (isClosed) return false;
      if (isAlone) return takeOfShare(entryOf(owner));
      return new Promise((resolve) => {
        entryOf(owner).waiting.push(resolve);
        settleSoon(owner);
      });
    },
    release(owner) {
      const entry = entries.get(owner);
      if (entry === undefined || entry.held === 0) return;
      entry.held--;
      if (!isAlone && !isClosed) settleSoon(owner);
    },
    held: () => [...entries.values()].reduce((sum, { held }) => sum + held, 0),
    run: (signal) =>
      runLoop({
        name: 'limits.renew',
        everyMs: renewMs,
        signal,
        observe,
        clock,
        wakeup: renewal,
        backoff: { baseMs: 100, capMs: 1_000 },
        work: renew,
      }),
    async close() {
      if (isClosed) return;
      isClosed = true;
      await settling?.catch(() => {});
      const owners = [...entries.keys()];
      entries.clear();
      await store.leave(owners).catch(() => {}); // what it could not take back runs out
    },
  };
}
