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

/** What the app's channels on Redis begin with. */
export async function channelPrefix(app: TestApp): Promise<string> {
  const [row] = await queryBeside<{ id: string }>(app, 'select id from fanfare.installation');
  return `ff:${row?.id}:`;
}
