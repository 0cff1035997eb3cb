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

/** The bodies that are stored under these keys. */
export async function readBodies(
  db: Kysely<EngineTables>,
  wanted: readonly { readonly seq: number; readonly key: string; readonly eventId: string | null }[],
): Promise<readonly StoredBody[]> {
  if (wanted.length === 0) return [];
  const occurred = occurrenceOf(wanted.map(({ eventId }) => eventId));
  const { rows } = await sql<StoredBody>`
    select b.seq, b.key, b.body from fanfare.body b
    where b.seq = any(${[...new Set(wanted.map(({ seq }) => seq))]}::bigint[]) and b.key = any(${[...new Set(wanted.map(({ key }) => key))]}::text[])
      and b.occurred_at between ${occurred?.first ?? '-infinity'}::timestamptz and ${occurred?.last ?? 'infinity'}::timestamptz
  `.execute(db);
  return rows;
}

/** A rendered body, and the claims that are to send it. */
export interface FreshBody extends StoredBody {
  readonly occurredAt: Date;
  readonly claims: readonly Claim[];
}

/**
 * Stores bodies and ties deliveries to them, for all attempts to come. Where another process was faster its bytes stay.
 * @returns the bodies to send, by delivery: only of those whose claim still holds
 */
export async function storeBodies(
  { db }: Database,
  bodies: readonly FreshBody[],
): Promise<ReadonlyMap<string, string>> {
  if (bodies.length === 0) return new Map();
  const ties = bodies.flatMap(({ seq, key, claims }) => claims.map((claim) => ({ claim, seq, key })));
  const { rows } = await sql<{ id: string; body: string | null }>`
    select id, body from fanfare.store_bodies(
      ${bodies.map(({ seq }) => seq)}::bigint[], ${bodies.map(({ key }) => key)}::text[],
      ${bodies.map(({ occurredAt }) => occurredAt.toISOString())}::timestamptz[], ${bodies.map(({ body }) => body)}::text[],
      ${ties.map(({ claim }) => claim.accountId)}::text[], ${ties.map(({ claim }) => claim.id)}::text[],
      ${ties.map(({ claim }) => claim.generation)}::int[], ${ties.map(({ key }) => key)}::text[])
  `.execute(db);
  const ours = new Map(bodies.flatMap(({ body, claims }) => claims.map(({ id }) => [id, body] as const)));
  return new Map(rows.map(({ id, body }) => [id, body ?? ours.get(id) ?? '']));
}

/** Lets deliveries whose claims still hold be rendered anew: their bodies are gone. */
export async function untieBodies({ db }: Database, claims: readonly Claim[]): Promise<void> {
  if (claims.length === 0) return;
  const rows = claims.map(({ accountId, id, generation }) => ({ account_id: accountId, id, generation }));
  await sql`
    update fanfare.delivery d set body_key = null
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as c (account_id text, id text, generation int)
    where d.account_id = c.account_id and d.id = c.id and d.generation = c.generation and d.lease_until is not null
  `.execute(db);
}
