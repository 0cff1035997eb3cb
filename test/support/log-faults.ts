import { expect } from 'vitest';
import type { Database } from '../../src/database/connect.ts';
import { authorOf, type LogDatabase, wholeLog } from './log-database.ts';
import { noteWritten, written } from './log-domain.ts';

/** How many of `writeMixed`'s events of each ten have a payload that breaks its schema. */
const PARKED_IN_TEN = 1;

/** Writes events of one account one by one, by both doors; every tenth is to be parked. Gives the ids to be stamped. */
export async function writeMixed(
  log: Pick<LogDatabase, 'transact' | 'emit'>,
  accountId: string,
  count: number,
): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < count; n++) {
    if (n % 10 === 9) await log.emit(accountId, 'note.written', 'note_bad', { text: n });
    else if (n % 2 === 0) ids.push((await log.emit(accountId, 'note.written', `note_${n % 7}`, written(`${n}`))) ?? '');
    else {
      const emission = { subjectId: `note_${n % 7}`, payload: written(`${n}`) };
      ids.push((await log.transact(authorOf(accountId), (tx) => tx.emit(noteWritten, emission))).lastEventId ?? '');
    }
  }
  return ids;
}

/** Each of these events is in the log once and no other, without gap in positions or shard offsets; nothing is left to stamp. */
export async function expectStampedOnce(database: Database, accountId: string, ids: readonly string[]): Promise<void> {
  const events = await wholeLog(database, accountId);
  expect(events.map(({ position }) => position)).toEqual(ids.map((_, at) => at + 1));
  expect(events.map(({ id }) => id)).toEqual(ids);
  const { db } = database;
  const log = await db
    .selectFrom('fanfare.log')
    .select(['shard', 'shard_offset', 'seq'])
    .orderBy('shard_offset')
    .execute();
  for (const shard of new Set(log.map((row) => row.shard))) {
    const offsets = log.filter((row) => row.shard === shard).map((row) => row.shard_offset);
    expect(offsets).toEqual(offsets.map((_, at) => at + 1));
  }
  expect(await db.selectFrom('fanfare.outbox').select('seq').execute()).toEqual([]);
}

/** Of `count` events by `writeMixed`. */
export function parkedOf(count: number): number {
  return Math.floor(count / 10) * PARKED_IN_TEN;
}
