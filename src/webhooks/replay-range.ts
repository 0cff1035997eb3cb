import { sql } from 'kysely';
import { oldestDay } from '../database/partitions.ts';
import { EngineError } from '../errors.ts';
import { toDate } from '../graphql/scalars.ts';
import { type PlaceDeps, resolveCursor } from '../outbox/place.ts';
import { readEarliest } from '../outbox/read.ts';

/** Positions of the log. */
export interface ReplayRange {
  /** Exclusive. */
  readonly after: number;
  /** Inclusive; undefined is the head. */
  readonly until: number | undefined;
}

/** As GraphQL has coerced it. */
export interface RangeInput {
  readonly startAfter?: string | null | undefined;
  readonly since?: Date | null | undefined;
  readonly until?: string | null | undefined;
}

/**
 * Finds the range that a replay is asked for. An event is as old as its position: one that was captured before a moment and got
 * its position behind it, is behind it.
 * @throws EngineError BAD_INPUT for both or neither of `startAfter` and `since`, for an `until` that is neither cursor nor moment, or
 * before the beginning; for cursors what `resolveCursor` throws; CURSOR_EXPIRED for a moment past retention
 */
export async function resolveRange(
  deps: PlaceDeps,
  accountId: string,
  { startAfter, since, until }: RangeInput,
): Promise<ReplayRange> {
  if (isGiven(startAfter) === isGiven(since)) throw new EngineError('BAD_INPUT', 'give either "startAfter" or "since"');
  const after = isGiven(startAfter)
    ? await resolveCursor(deps, accountId, startAfter)
    : await beginAt(deps, accountId, since ?? new Date(Number.NaN)); // one of the two is given
  const end = isGiven(until) ? await resolveEnd(deps, accountId, until) : undefined;
  if (end !== undefined && end < after)
    throw new EngineError('BAD_INPUT', '"until" is before the beginning; expected a later cursor or moment');
  return { after, until: end };
}

/** @throws EngineError CURSOR_EXPIRED if retention may have taken what came first */
async function beginAt(deps: PlaceDeps, accountId: string, since: Date): Promise<number> {
  const after = await positionBefore(deps, accountId, since);
  const earliest = await readEarliest(deps.database.db, accountId);
  if (earliest === 1 || after >= earliest || (await isWithinLog(deps, since))) return after;
  throw new EngineError(
    'CURSOR_EXPIRED',
    'some events since this moment are past retention; begin at "earliestCursor" to get those that are left',
    { details: { earliestCursor: deps.cursors.encode(accountId, { kind: 'position', position: earliest - 1 }) } },
  );
}

/** Whether all that was stamped since then is still there: the log is dropped by whole days. */
async function isWithinLog({ database }: PlaceDeps, since: Date): Promise<boolean> {
  const day = await oldestDay(database, 'log');
  return day !== undefined && since.toISOString().slice(0, 10).replaceAll('-', '') >= day;
}

/** By form: a cursor has no colon. */
async function resolveEnd(deps: PlaceDeps, accountId: string, until: string): Promise<number> {
  if (!until.includes(':')) return resolveCursor(deps, accountId, until);
  return positionBefore(deps, accountId, parseMoment(until));
}

function parseMoment(text: string): Date {
  try {
    return toDate(text);
  } catch (cause) {
    throw new EngineError(
      'BAD_INPUT',
      `"until": expected a cursor, or a moment such as "2026-01-31T12:00:00.000Z", found "${text.slice(0, 40)}"`,
      { cause },
    );
  }
}

async function positionBefore({ database }: PlaceDeps, accountId: string, moment: Date): Promise<number> {
  const { rows } = await sql<{ position: number }>`
    select fanfare.position_before(${accountId}, ${moment}::timestamptz) as position
  `.execute(database.db);
  return rows[0]?.position ?? 0;
}

function isGiven<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}
