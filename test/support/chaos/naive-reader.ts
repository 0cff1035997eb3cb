import { setTimeout as wait } from 'node:timers/promises';
import pg from 'pg';

/** Reads the events by their serial id, behind the greatest that it has seen: the negative control of the order. */
export interface NaiveReader {
  readonly ids: ReadonlySet<string>;
  close(): Promise<void>;
}

const EVERY_MS = 20;

export async function openNaiveReader(databaseUrl: string): Promise<NaiveReader> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const ids = new Set<string>();
  const stop = new AbortController();
  const run = async () => {
    for (let last = '0'; !stop.signal.aborted; ) {
      const { rows } = await client.query<{ id: string; seq: string }>(
        'select id, seq from fanfare.event where seq > $1 order by seq limit 1000',
        [last],
      );
      for (const { id } of rows) ids.add(id);
      last = rows.at(-1)?.seq ?? last;
      await wait(EVERY_MS);
    }
  };
  const ended = run();
  return {
    ids,
    async close() {
      stop.abort();
      await ended;
      await client.end();
    },
  };
}
