import { sql } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import { EngineError } from '../errors.ts';
import type { EngineContext } from '../graphql/context.ts';
import { invalidCursor } from '../outbox/cursor.ts';
import { resolveCursor } from '../outbox/place.ts';
import type { Tx } from '../outbox/transact.ts';
import { type Consumer, noSuchConsumer } from './consumer.ts';
import { lockConsumer, readConsumer } from './registration.ts';

/** What `fanfare.ack_events` answers; see migrations/engine/0007_consumers.ts. */
export type AckOutcome = 'DONE' | 'DONE_BEFORE' | 'MOVED' | 'LEASED' | 'AHEAD' | 'GONE';

/**
 * The position that an ack is for. Unlike a reader's it may be past retention: what is behind the consumer's position
 * already is no fault.
 * @throws EngineError INVALID_CURSOR, EPOCH_CHANGED; of a commit cursor CURSOR_PENDING, CURSOR_EXPIRED
 */
export async function placeOfAck({ engine, accountId }: EngineContext<EngineTables>, cursor: string): Promise<number> {
  const place = engine.cursors.decode(accountId, cursor);
  return place.kind === 'position' ? place.position : resolveCursor(engine, accountId, cursor);
}

/**
 * Takes the events up to a position for done, of the range that holds it; others stay lent out. Acks come in any order,
 * and again, without harm.
 * @returns the consumer as it is then
 * @throws EngineError NOT_FOUND; INVALID_CURSOR for a position that the log has not reached; CONFLICT for one ahead of
 * everything that was lent out while leases are open
 */
export async function ackConsumer(
  tx: Tx,
  { name, position }: { readonly name: string; readonly position: number },
): Promise<Consumer> {
  const { id } = await lockConsumer(tx, name);
  const outcome = await ackEvents(tx, id, position);
  if (outcome === 'GONE') throw noSuchConsumer(name);
  if (outcome === 'AHEAD') throw invalidCursor();
  if (outcome === 'LEASED') {
    throw new EngineError(
      'CONFLICT',
      'this cursor is ahead of everything that was polled, and leases are open: ack them or let them run out, then skip ahead',
    );
  }
  return readConsumer(tx, id);
}

/** The one statement of an ack. */
export async function ackEvents({ db, accountId }: Pick<Tx, 'db' | 'accountId'>, id: string, position: number) {
  const { rows } = await sql<{ outcome: AckOutcome }>`
    select fanfare.ack_events(${accountId}, ${id}, ${position}::bigint) as outcome
  `.execute(db);
  return rows[0]?.outcome ?? 'GONE';
}
