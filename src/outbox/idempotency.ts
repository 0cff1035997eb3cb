import { createHash } from 'node:crypto';
import { type Kysely, sql } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import { EngineError } from '../errors.ts';
import { canonicalJson } from '../runtime/canonical-json.ts';

/** What identifies a call that may be repeated. */
export interface IdempotentCall {
  readonly accountId: string;
  /** The client's key: 1 to 255 visible ASCII characters. */
  readonly key: string;
  /** The mutation field. */
  readonly field: string;
  /** Of the coerced arguments. */
  readonly argumentsHash: Uint8Array;
}

/** What a repeat answers from: ids, versions, scalars and the cursor's event; never a secret. */
export type Outcome = Readonly<Record<string, unknown>>;

/**
 * Claims the key in this transaction, before anything else in it: a concurrent equal call waits here until this one
 * commits (and then gets its outcome) or rolls back (and then makes the change itself).
 * @returns the remembered outcome, or undefined if this call is the first
 * @throws EngineError CONFLICT if the key was used for another field or other arguments
 */
export async function claimKey(db: Kysely<EngineTables>, call: IdempotentCall): Promise<Outcome | undefined> {
  const { rows } = await sql`
    insert into fanfare.idempotency (account_id, key, field, arguments_hash)
    values (${call.accountId}, ${call.key}, ${call.field}, ${call.argumentsHash})
    on conflict (account_id, key) do update
      set field = excluded.field, arguments_hash = excluded.arguments_hash, outcome = null, created_at = excluded.created_at
      where fanfare.idempotency.created_at < fanfare.now() - interval '24 hours'
    returning key
  `.execute(db);
  return rows.length > 0 ? undefined : readOutcome(db, call);
}

async function readOutcome(db: Kysely<EngineTables>, call: IdempotentCall): Promise<Outcome> {
  const row = await db
    .selectFrom('fanfare.idempotency')
    .select(['field', 'arguments_hash', 'outcome'])
    .where('account_id', '=', call.accountId)
    .where('key', '=', call.key)
    .executeTakeFirst();
  // pruned between the two statements, after a day
  if (row === undefined || row.outcome === null)
    throw new EngineError('UNAVAILABLE', 'the Idempotency-Key just expired; use a new one');
  const isSame = row.field === call.field && Buffer.from(row.arguments_hash).equals(call.argumentsHash);
  if (!isSame) {
    throw new EngineError(
      'CONFLICT',
      'this Idempotency-Key was used for another call in the last 24 hours; use a new key for a new call',
    );
  }
  return row.outcome;
}

/** Remembers the outcome for 24 hours, in the change's transaction. */
export async function rememberOutcome(db: Kysely<EngineTables>, call: IdempotentCall, outcome: Outcome): Promise<void> {
  await db
    .updateTable('fanfare.idempotency')
    .set({ outcome: JSON.stringify(outcome) })
    .where('account_id', '=', call.accountId)
    .where('key', '=', call.key)
    .execute();
}

/** A hash of coerced arguments that does not depend on the order of their fields. */
export function hashArguments(args: unknown): Uint8Array {
  return createHash('sha256').update(canonicalJson(args)).digest();
}
