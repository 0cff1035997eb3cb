import { randomBytes } from 'node:crypto';
import { cpSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { inject } from 'vitest';
import { eventually } from './eventually.ts';
import { urlOfDatabase, withClient } from './postgres-client.ts';
import { type PostgresOptions, type PostgresServer, startPostgres } from './postgres-server.ts';
import { prepareTestDatabase } from './prepare-database.ts';

export interface TestDatabase {
  readonly url: string;
  /** Moves the clock of schedules, `fanfare.now()`, further ahead. Leases are not moved. */
  advanceClock(ms: number): Promise<void>;
  /**
   * Fails if a connection is still open at the deadline: somebody forgot to close a service. Dropped in any case.
   * @param options.deadlineMs @default 15_000 (ms)
   */
  drop(options?: { readonly deadlineMs?: number }): Promise<void>;
}

/** A fresh, migrated database on the run's shared server: a clone of the template. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const { databaseUrl, templateDatabase, prefix } = inject('run');
  const name = `${prefix}_${randomBytes(6).toString('hex')}`;
  const url = urlOfDatabase(databaseUrl, name);
  await withClient(databaseUrl, (client) => clone(client, { name, template: templateDatabase }));
  await withClient(url, becomeOwnInstallation);
  return {
    url,
    advanceClock: (ms) =>
      withClient(url, async (client) => {
        await client.query("update fanfare.test_clock set ahead_by = ahead_by + $1 * interval '1 ms'", [ms]);
      }),
    drop: ({ deadlineMs = 15_000 } = {}) =>
      withClient(databaseUrl, async (client) => {
        const leak = await untilUnused(client, { name, deadlineMs }).then(
          () => undefined,
          (error: unknown) => error,
        );
        await client.query(`drop database ${name} with (force)`);
        if (leak !== undefined) throw leak;
      }),
  };
}

/** A migrated Postgres that the test owns: it may be stopped, killed and frozen. */
export async function startTestPostgres(options: Omit<PostgresOptions, 'scratchDir'> = {}): Promise<PostgresServer> {
  const server = await startPostgres({ ...options, scratchDir: inject('run').scratchDir });
  try {
    await prepareTestDatabase(server.url);
    return server;
  } catch (error) {
    await server.close();
    throw error;
  }
}

export interface EmbeddedFolder {
  /** For `DATA_DIR`: PGlite, migrated, is in its `pglite`. */
  readonly dataDir: string;
  remove(): Promise<void>;
}

/** A fresh data folder for embedded mode: a copy, since PGlite needs 2 to 3 s to make one. */
export async function createEmbeddedFolder(): Promise<EmbeddedFolder> {
  const { scratchDir, embeddedTemplateDir } = inject('run');
  const dataDir = await mkdtemp(join(scratchDir, 'embedded-'));
  // 1,500 files: in one go 60 ms, file by file through promises 500 ms
  cpSync(embeddedTemplateDir, dataDir, { recursive: true });
  return { dataDir, remove: async () => rmSync(dataDir, { recursive: true, force: true }) };
}

const OBJECT_IN_USE = '55006';

/** Nobody may connect to the template, but autovacuum may be looking at it. */
async function clone(client: pg.Client, { name, template }: { name: string; template: string }): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await client.query(`create database ${name} template ${template}`);
      return;
    } catch (error) {
      if (!(error instanceof pg.DatabaseError && error.code === OBJECT_IN_USE) || attempt === 5) throw error;
    }
  }
}

/** A clone would hear its siblings on the shared Redis, and take their cursors for its own. */
async function becomeOwnInstallation(client: pg.Client): Promise<void> {
  const id = randomBytes(6).toString('hex');
  const epoch = randomBytes(8).toString('hex');
  await client.query('update fanfare.installation set id = $1, epoch = $2', [id, epoch]);
}

/** A closed connection's backend is gone a moment after the client thinks so, on a busy machine seconds after. */
async function untilUnused(
  client: pg.Client,
  { name, deadlineMs }: { readonly name: string; readonly deadlineMs: number },
): Promise<void> {
  const check = async () => {
    const { rows } = await client.query<{ application_name: string; query: string }>(
      "select application_name, query from pg_stat_activity where datname = $1 and backend_type = 'client backend'",
      [name],
    );
    if (rows.length > 0) throw new Error(`${rows.length} left: ${JSON.stringify(rows)}`);
  };
  await eventually(check, { deadlineMs, describe: `the test to close its connections to ${name}` });
}
