import { sql, type Transaction } from 'kysely';
import type { z } from 'zod';
import type { EngineTables } from '../database/tables.ts';
import type { EventDefinition } from './event.ts';

/** What `emitOwn` is given of each event beside its definition. */
export interface OwnEmission<Payload extends z.ZodRawShape> {
  readonly accountId: string;
  readonly subjectId: string;
  readonly payload: z.infer<z.ZodObject<Payload>>;
  /** The event that it follows from. */
  readonly causedBy: string | null;
}

/**
 * Captures facts of the engine's own, of any accounts, in a transaction that changes what they are about: by the same door
 * as `Tx.emit`, with nobody as the actor, and in one statement. Takes the subjects' row locks until the end: whoever
 * calls it holds the rows that they are of, so that two never wait for each other crosswise. Behind the commit the
 * sequencer wants a hint.
 * @throws Error if a payload breaks its schema: a bug of the caller
 */
export async function emitOwn<Payload extends z.ZodRawShape>(
  tx: Transaction<EngineTables>,
  event: EventDefinition<Payload, 'fact'>,
  emissions: readonly OwnEmission<Payload>[],
): Promise<void> {
  if (emissions.length === 0) return;
  const rows = emissions.map(({ payload, ...rest }) => ({ ...rest, payload: event.schema.parse(payload) }));
  await sql`
    select a.id from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as e (
      "accountId" text, "subjectId" text, payload jsonb, "causedBy" text)
    cross join lateral fanfare.append(e."accountId", ${event.name}, e."subjectId", e.payload, null, ${event.version}::int,
      null, null, e."causedBy", true) a
  `.execute(tx);
}
