import { createHash } from 'node:crypto';
import pg from 'pg';
import type { TestApp } from './app.ts';

/** Runs one statement on the app's Postgres, beside the app. */
export async function queryBeside<Row extends pg.QueryResultRow>(
  app: TestApp,
  text: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const client = new pg.Client({ connectionString: app.env.DATABASE_URL });
  await client.connect();
  try {
    return (await client.query<Row>(text, values)).rows;
  } finally {
    await client.end();
  }
}

/** What the app's channels on Redis begin with: by the Postgres system and the database. */
export async function channelPrefix(app: TestApp): Promise<string> {
  const [row] = await queryBeside<{ place: string }>(
    app,
    "select system_identifier::text || '/' || current_database() as place from pg_control_system()",
  );
  const place = createHash('sha256')
    .update(row?.place ?? '')
    .digest('hex');
  return `ff:${place.slice(0, 16)}:`;
}
