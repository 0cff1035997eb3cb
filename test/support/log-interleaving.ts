import { sql } from 'kysely';
import { expect } from 'vitest';
import type { Database } from '../../src/database/connect.ts';
import { readEvents } from '../../src/outbox/read.ts';
import type { Tx } from '../../src/outbox/transact.ts';
import { authorOf, type LogDatabase, wholeLog } from './log-database.ts';
import { noteWritten, written } from './log-domain.ts';
import { createLeader, drain } from './log-sequencer.ts';

export interface Interleaving {
  readonly seed: number;
  /** Transactions that are open at the same time. */
  readonly writers: number;
  readonly transactionsEach: number;
}

/** What came of it; lists of event ids. */
export interface InterleavedRun {
  readonly accounts: readonly string[];
  readonly committed: readonly string[];
  readonly rolledBack: readonly string[];
  /** By account, what a reader by cursor saw while it went on. */
  readonly seenByCursor: readonly (readonly string[])[];
  /** By account, the whole log at the end. */
  readonly logged: readonly (readonly string[])[];
  /** Committed events that a reader by serial id did not see; on Postgres at least one. */
  readonly lostBySerialId: number;
}

class RolledBack extends Error {}

/**
 * Writers over few accounts and subjects, a fifth of them rolled back, while two sequencers stamp and two readers poll. On
 * Postgres the first transaction of all commits only when the reader by serial id has seen a later one.
 */
export async function runInterleaved(log: LogDatabase, plan: Interleaving): Promise<InterleavedRun> {
  const accounts = await Promise.all(Array.from({ length: 4 }, () => log.addAccount()));
  const committed: string[] = [];
  const rolledBack: string[] = [];
  const write = async (writer: number) => {
    const random = randomOf(plan.seed + writer);
    for (let n = 0; n < plan.transactionsEach; n++) {
      const ids: string[] = [];
      const accountId = pick(accounts, random);
      const outcome = log.transact(authorOf(accountId), (tx) =>
        change(tx, { ids, random, isEmbedded: log.kind === 'pglite' }),
      );
      await outcome.then(
        () => committed.push(...ids),
        (error: unknown) => {
          if (!(error instanceof RolledBack)) throw error;
          rolledBack.push(...ids);
        },
      );
    }
  };
  const late = log.kind === 'postgres' ? await beginLate(log, accounts[0] ?? '') : undefined;
  const writing = Promise.all(Array.from({ length: plan.writers }, (_, writer) => write(writer)));
  const done = Promise.all([writing, late?.committed.then((id) => committed.push(id))]);
  const { seenByCursor, seenBySerialId } = await observeUntil(log, { accounts, done, onSerialId: late?.onSerialId });
  const logged = await Promise.all(accounts.map((accountId) => idsOf(wholeLog(log.database, accountId))));
  const lostBySerialId = committed.filter((id) => !seenBySerialId.has(id)).length;
  return { accounts, committed, rolledBack, seenByCursor, logged, lostBySerialId };
}

interface LateCommit {
  /** Commits once it is told of a later one than its own event's. */
  onSerialId(seq: number): void;
  /** The id of its event. */
  readonly committed: Promise<string>;
}

/** A transaction that has emitted and stays open. */
async function beginLate(log: LogDatabase, accountId: string): Promise<LateCommit> {
  const emitted = Promise.withResolvers<number>();
  const isOvertaken = Promise.withResolvers<void>();
  const outcome = log.transact(authorOf(accountId), async (tx) => {
    await tx.emit(noteWritten, { subjectId: 'note_late', payload: written('') });
    const { rows } = await sql<{ seq: number }>`select last_value as seq from fanfare.event_seq`.execute(tx.db);
    emitted.resolve(rows[0]?.seq ?? 0);
    await isOvertaken.promise;
  });
  const committed = outcome.then(({ lastEventId = '' }) => lastEventId);
  const own = await Promise.race([emitted.promise, committed.then(() => 0)]);
  return { committed, onSerialId: (seq) => seq > own && isOvertaken.resolve() };
}

interface Change {
  /** Of this attempt's events. */
  readonly ids: string[];
  readonly random: () => number;
  readonly isEmbedded: boolean;
}

async function change(tx: Tx, { ids, random, isEmbedded }: Change): Promise<void> {
  // in one order of subjects: deadlocks, each a second long, have a test of their own
  const subjects = Array.from({ length: 1 + Math.floor(random() * 4) }, () => Math.floor(random() * 12)).sort(
    (a, b) => a - b,
  );
  for (const subject of subjects) {
    const subjectId = `note_${subject}`;
    const emitted = await tx.emit(noteWritten, { subjectId, payload: written('') });
    if (emitted) ids.push(emitted.id);
    // holds the transaction open inside the server, so that the others overtake it
    if (!isEmbedded) await sql`select pg_sleep(${random() * 0.02})`.execute(tx.db);
  }
  if (random() < 0.2) throw new RolledBack();
}

interface Observed {
  readonly seenByCursor: string[][];
  readonly seenBySerialId: ReadonlySet<string>;
}

interface ObserveOptions {
  readonly accounts: readonly string[];
  readonly done: Promise<unknown>;
  /** Called with the last that the reader by serial id has seen, after each of its reads. */
  readonly onSerialId?: ((seq: number) => void) | undefined;
}

async function observeUntil(
  log: LogDatabase,
  { accounts, done, onSerialId = () => {} }: ObserveOptions,
): Promise<Observed> {
  const leaders = [createLeader(log.database), createLeader(log.database, { batchSize: 37 })];
  const places = accounts.map(() => 0);
  const seenByCursor: string[][] = accounts.map(() => []);
  const seenBySerialId = new Set<string>();
  let serialId = 0;
  let isDone = false;
  done.then(
    () => (isDone = true),
    () => (isDone = true),
  );
  const pass = async () => {
    for (const leader of leaders) await leader.keepLeases();
    await Promise.all(leaders.map(drain));
    for (const [at, accountId] of accounts.entries()) {
      const after = places[at] ?? 0;
      const events = await readEvents(log.database.db, { accountId, filters: [], after, limit: 50 });
      places[at] = events.at(-1)?.position ?? after;
      seenByCursor[at]?.push(...events.map(({ id }) => id));
    }
    const { rows } = await sql<{ seq: number; id: string }>`
      select seq, id from fanfare.event where seq > ${serialId} order by seq`.execute(log.database.db);
    serialId = rows.at(-1)?.seq ?? serialId;
    for (const { id } of rows) seenBySerialId.add(id);
    onSerialId(serialId);
  };
  while (!isDone) await pass();
  await done;
  // until nothing is left: the readers take 50 at a time
  for (let before = -1; before !== places.reduce((sum, place) => sum + place, 0); ) {
    before = places.reduce((sum, place) => sum + place, 0);
    await pass();
  }
  for (const leader of leaders) await leader.release();
  return { seenByCursor, seenBySerialId };
}

/** Gapless positions per account; each committed event once and no other; versions rise with positions, without gap. */
export async function expectFaithfulLog(database: Database, run: InterleavedRun): Promise<void> {
  const all: string[] = [];
  for (const accountId of run.accounts) {
    const events = await wholeLog(database, accountId);
    expect(events.map(({ position }) => position)).toEqual(events.map((_, at) => at + 1));
    const versions = new Map<string, number>();
    for (const { subjectId, subjectVersion } of events) {
      expect(subjectVersion).toBe((versions.get(subjectId) ?? 0) + 1);
      versions.set(subjectId, subjectVersion);
    }
    all.push(...events.map(({ id }) => id));
  }
  expect(all.toSorted()).toEqual(run.committed.toSorted());
}

async function idsOf(events: Promise<readonly { readonly id: string }[]>): Promise<string[]> {
  return (await events).map(({ id }) => id);
}

function pick<T>(values: readonly T[], random: () => number): T {
  const value = values[Math.floor(random() * values.length)];
  if (value === undefined) throw new Error('nothing to pick from');
  return value;
}

/** Seeded numbers from 0 to 1 (mulberry32): a failing run can be repeated. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
