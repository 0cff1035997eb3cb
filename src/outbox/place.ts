import { EngineError } from '../errors.ts';
import type { Clock } from '../runtime/clock.ts';
import { type CursorCodec, invalidCursor } from './cursor.ts';
import { type LogDatabase, readEarliest, readHead, readStamp } from './read.ts';

export interface PlaceDeps {
  readonly database: LogDatabase;
  readonly cursors: CursorCodec;
  readonly clock: Clock;
}

/** How long a commit cursor may wait for its stamp, in ms. */
export const STAMP_WAIT_MS = 5_000;
const STAMP_POLL_MS = 10;
const MAX_STAMP_POLL_MS = 250;

/**
 * The position that a cursor stands behind. A commit cursor waits at most 5 s for its event to be stamped.
 * @throws EngineError INVALID_CURSOR, EPOCH_CHANGED, CURSOR_PENDING, or CURSOR_EXPIRED with the earliest cursor that
 * still works in `details.earliestCursor`
 */
export async function resolveCursor(deps: PlaceDeps, accountId: string, cursor: string): Promise<number> {
  const place = deps.cursors.decode(accountId, cursor);
  const position = place.kind === 'position' ? place.position : await awaitStamp(deps, accountId, place.eventId);
  await requireReadable(deps, accountId, position);
  return position;
}

async function awaitStamp({ database, clock }: PlaceDeps, accountId: string, eventId: string): Promise<number> {
  const deadline = clock.now() + STAMP_WAIT_MS;
  for (let waitMs = STAMP_POLL_MS; ; waitMs = Math.min(waitMs * 2, MAX_STAMP_POLL_MS)) {
    const stamp = await readStamp(database.db, accountId, eventId);
    if (stamp.state === 'stamped' || stamp.state === 'parked') return stamp.position;
    if (stamp.state === 'unknown') return 0; // signed by us, so it was here: it is past retention
    if (clock.now() >= deadline) {
      throw new EngineError(
        'CURSOR_PENDING',
        'the change of this cursor has no position yet; try again in a few seconds',
      );
    }
    await clock.wait(Math.min(waitMs, deadline - clock.now()));
  }
}

/**
 * Refuses a place behind which retention has dropped events. Call it again after reading: what was dropped before the
 * read, and after the first look, would be a silent gap.
 * @throws EngineError CURSOR_EXPIRED, or INVALID_CURSOR for a place that the log has not reached
 */
export async function requireReadable(
  { database, cursors }: Pick<PlaceDeps, 'database' | 'cursors'>,
  accountId: string,
  position: number,
): Promise<void> {
  await requireRetained({ database, cursors }, accountId, position);
  if (position > (await readHead(database.db, accountId))) throw invalidCursor();
}

/** The same for a place that the log is known to have reached. @throws EngineError CURSOR_EXPIRED */
export async function requireRetained(
  { database, cursors }: Pick<PlaceDeps, 'database' | 'cursors'>,
  accountId: string,
  position: number,
): Promise<void> {
  const earliest = await readEarliest(database.db, accountId);
  if (position < earliest - 1) {
    throw new EngineError(
      'CURSOR_EXPIRED',
      'events after this cursor are past retention; read the current state and go on from "earliestCursor"',
      {
        details: { earliestCursor: cursors.encode(accountId, { kind: 'position', position: earliest - 1 }) },
      },
    );
  }
}
