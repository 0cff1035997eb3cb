import { type Kysely, sql } from 'kysely';

/** Headers that a webhook's maker adds to its requests. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // header_names: in lower case; sealed_headers: a JSON object of their values, and of the authorization that basic auth makes, sealed
  // for this webhook (src/webhooks/custom-headers.ts); null: neither.
  await sql`alter table fanfare.webhook
    add header_names text[] not null default '{}',
    add has_basic_auth boolean not null default false,
    add sealed_headers text`.execute(db);
}
