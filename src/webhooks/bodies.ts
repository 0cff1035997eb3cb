import { createHash } from 'node:crypto';
import { type Kysely, sql } from 'kysely';
import type { Database } from '../database/connect.ts';
import type { EngineTables } from '../database/tables.ts';
import { fingerprint } from '../identity/principal.ts';
import { canonicalJson } from '../runtime/canonical-json.ts';
import type { Claim } from './claim.ts';
import { occurrenceOf } from './occurrence.ts';
import { principalOf, type Webhook } from './webhook.ts';

/** A body under its key, of one event. */
export interface StoredBody {
  readonly seq: number;
  readonly key: string;
  readonly body: string;
}

/** One text for equal (document, grants): webhooks with equal keys share the body of an event. */
export function bodyKey(webhook: Webhook, documentSource: string): string {
  const grants = fingerprint(principalOf(webhook));
  return createHash('sha256')
    .update(canonicalJson([documentSource, webhook.variables, grants]))
    .digest('base64url')
    .slice(0, 22);
}

/** The bodies that are there already. */
export async function readBodies(
  db: Kysely<EngineTables>,
  wanted: readonly { readonly seq: number; readonly key: string; readonly eventId: string | null }[],
): Promise<StoredBody[]> {
  if (wanted.length === 0) return [];
  const occurred = occurrenceOf(wanted.map(({ eventId }) => eventId));
  let query = db
    .selectFrom('fanfare.body')
    .select(['seq', 'key', 'body'])
    .where('seq', 'in', [...new Set(wanted.map(({ seq }) => seq))])
    .where('key', 'in', [...new Set(wanted.map(({ key }) => key))]);
  if (occurred !== undefined) {
    query = query.where('occurred_at', '>=', occurred.first).where('occurred_at', '<=', occurred.last);
  }
  return query.execute();
}

/** Stores bodies; where another process was faster its bytes stay, and are the ones to send: read them. */
export async function storeBodies(
  db: Kysely<EngineTables>,
  bodies: readonly (StoredBody & { readonly occurredAt: Date })[],
): Promise<void> {
  if (bodies.length === 0) return;
  await db
    .insertInto('fanfare.body')
    .values(bodies.map(({ seq, key, body, occurredAt }) => ({ seq, key, body, occurred_at: occurredAt })))
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/**
 * Ties deliveries to their bodies, for all attempts to come.
 * @returns the ids of those whose claim still holds: only these may be sent
 */
export async function assignBodies(
  { db }: Database,
  assignments: readonly { readonly claim: Claim; readonly key: string }[],
): Promise<ReadonlySet<string>> {
  if (assignments.length === 0) return new Set();
  const rows = assignments.map(({ claim: { accountId, id, generation }, key }) => ({ accountId, id, generation, key }));
  const { rows: held } = await sql<{ id: string }>`
    update fanfare.delivery d set body_key = a.key
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as a ("accountId" text, id text, generation int, key text)
    where d.account_id = a."accountId" and d.id = a.id and d.generation = a.generation and d.lease_until is not null
    returning d.id
  `.execute(db);
  return new Set(held.map(({ id }) => id));
}
