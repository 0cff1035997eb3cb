import { withClient } from '../../test/support/postgres-client.ts';

/** Which statements `pg_stat_statements` counts: none, those that clients send, or those inside functions, too. */
export type Tracking = 'none' | 'top' | 'all';

/** Takes hold with the next statement of each connection. The server must have loaded `pg_stat_statements`. */
export async function trackStatements(adminUrl: string, tracking: Tracking): Promise<void> {
  await withClient(adminUrl, async (client) => {
    await client.query(`alter system set pg_stat_statements.track = '${tracking}'`);
    await client.query('select pg_reload_conf()');
  });
}

export interface StatementCounter {
  /** How often clients have had the database do one so far, all processes together. */
  read(): Promise<number>;
  stop(): Promise<void>;
}

/**
 * Counts statements, each as soon as it has ended. `pg_stat_database` can't: a busy connection adds its transactions to it once a
 * second, an idle one up to ten seconds later, so that the end of one load is counted in the next.
 * @param besides a piece of text: statements that have it are left out
 */
export async function startStatementCounter(
  { adminUrl }: { readonly adminUrl: string },
  { databaseUrl, besides }: { readonly databaseUrl: string; readonly besides: string },
): Promise<StatementCounter> {
  const before = await prepareCounting(adminUrl);
  if (before === 'none') await trackStatements(adminUrl, 'top');
  const name = new URL(databaseUrl).pathname.slice(1);
  return {
    read: () => sumCalls(adminUrl, { name, besides }),
    stop: () => trackStatements(adminUrl, before),
  };
}

/** @returns what is counted now */
function prepareCounting(adminUrl: string): Promise<Tracking> {
  return withClient(adminUrl, async (client) => {
    await client.query('create extension if not exists pg_stat_statements');
    const { rows } = await client.query<{ tracking: Tracking }>(
      `select current_setting('pg_stat_statements.track') as tracking`,
    );
    return rows[0]?.tracking ?? 'none';
  });
}

/** From another database, so that it does not count itself. */
function sumCalls(
  adminUrl: string,
  { name, besides }: { readonly name: string; readonly besides: string },
): Promise<number> {
  return withClient(adminUrl, async (client) => {
    const { rows } = await client.query<{ calls: number }>(
      `select coalesce(sum(s.calls), 0)::int as calls from pg_stat_statements s join pg_database d on d.oid = s.dbid
       where d.datname = $1 and s.toplevel and strpos(s.query, $2) = 0`,
      [name, besides],
    );
    return rows[0]?.calls ?? 0;
  });
}
