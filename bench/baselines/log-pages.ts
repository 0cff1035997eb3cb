import pg from 'pg';
import { serveMethods } from '../../test/support/worker.ts';
import { digestEvents } from '../support/event-digest.ts';
import type { Reading } from '../support/resume-program.ts';

/** Pages of 100 gave 12,000 events a second, of 500 and of 1,000 47,000 (2 cores, shared, 2026-11-22). */
const PAGE = 500;
/** As long as a real one. */
const CURSOR = 'c'.repeat(75);

interface Row {
  readonly position: string;
  readonly id: string;
  readonly name: string;
  readonly occurred_at: Date;
  readonly subject_id: string;
  readonly subject_version: number;
  readonly payload: { readonly sku: string; readonly stock: number };
}

/** Reads the log's rows on bare `pg`, page by page, and makes the JSON of them that a subscriber gets. */
export function createLogPages() {
  let client: pg.Client | undefined;

  async function readPage(after: string): Promise<readonly Row[]> {
    if (client === undefined) throw new Error('call open first');
    const { rows } = await client.query<Row>(
      `select l.position, e.id, e.name, e.occurred_at, e.subject_id, e.subject_version, e.payload
       from fanfare.log l join fanfare.event e on e.seq = l.seq
       where l.account_id = 'acc_default' and e.account_id = 'acc_default' and l.position > $1 and e.name = 'stock.changed'
       order by l.position limit ${PAGE}`,
      [after],
    );
    return rows;
  }

  return {
    async open(databaseUrl: string): Promise<void> {
      client = new pg.Client({ connectionString: databaseUrl });
      await client.connect();
    },
    /** Reads what is behind the position, up to the end. */
    async read(after: number): Promise<Reading> {
      const texts: string[] = [];
      const startedAt = performance.now();
      let rows = await readPage(String(after));
      while (rows.length > 0) {
        for (const row of rows) texts.push(JSON.stringify(resultOf(row)));
        rows = rows.length < PAGE ? [] : await readPage(rows.at(-1)?.position ?? '');
      }
      const seconds = (performance.now() - startedAt) / 1_000;
      return { seconds, bytes: texts.reduce((sum, text) => sum + text.length, 0), digest: digestEvents(texts) };
    },
  };
}

export type LogPages = ReturnType<typeof createLogPages>;

function resultOf({ id, position, name, occurred_at, subject_id, subject_version, payload }: Row) {
  return {
    data: {
      events: {
        id,
        position,
        cursor: CURSOR,
        name,
        occurredAt: occurred_at.toISOString(),
        subjectId: subject_id,
        subjectVersion: subject_version,
        sku: payload.sku,
        stock: payload.stock,
      },
    },
  };
}

if (import.meta.main) serveMethods(createLogPages());
