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
 * Stores bodies before anything of them is sent, and notes their keys in the claims, by whose results the deliveries are tied to them for all
 * attempts to come. Where another process was faster its bytes stay. Who is claimed anew without a result, as after a crash, finds them
 * under the same key while its webhook asks for the same.
 * @returns the bodies to send, by delivery
 */
export async function storeBodies(
  { db }: Database,
  bodies: readonly FreshBody[],
): Promise<ReadonlyMap<string, string>> {
  if (bodies.length === 0) return new Map();
  // one after another as bytes: as an array of texts their quotes are escaped and read again, at 9 µs each here and 8 in the database
  const parts = bodies.map(({ body }) => Buffer.from(body));
  let end = 0;
  const ends = parts.map(({ length }) => (end += length));
  const { rows } = await sql<StoredBody>`
    select seq, key, body from fanfare.store_bodies(
      ${bodies.map(({ seq }) => seq)}::bigint[], ${bodies.map(({ key }) => key)}::text[],
      ${bodies.map(({ occurredAt }) => occurredAt.toISOString())}::timestamptz[], ${ends}::int[], ${Buffer.concat(parts)}::bytea)
  `.execute(db);
  const earlier = new Map(rows.map(({ seq, key, body }) => [`${seq}:${key}`, body]));
  return new Map(
    bodies.flatMap(({ seq, key, body, claims }) =>
      claims.map((claim) => {
        claim.bodyKey = key;
        return [claim.id, earlier.get(`${seq}:${key}`) ?? body] as const;
      }),
    ),
  );
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
  for (const claim of claims) claim.bodyKey = null;
}
