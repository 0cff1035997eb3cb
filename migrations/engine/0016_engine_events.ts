import { type Kysely, sql } from 'kysely';

/** What it takes to tell of a webhook's troubles once. */
export async function up(db: Kysely<unknown>): Promise<void> {
  // failing_since: of the first of its failures in a row. alarm: ON: webhook.failing or webhook.disabled was told of these
  // failures; OLD: of earlier ones, which somebody ended by a resume or a new URL; null: nothing is told that was not taken back.
  await sql`alter table fanfare.webhook
    add failing_since timestamptz,
    add alarm text check (alarm in ('ON', 'OLD'))`.execute(db);
}
