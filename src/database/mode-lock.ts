import pg from 'pg';
import { StartupError } from '../errors.ts';
import type { Clock } from '../runtime/clock.ts';

/** Whether this process shares its database with others of its kind, or must be the only one. */
export type ModeLockKind = 'exclusive' | 'shared';

export interface ModeLockOptions {
  readonly url: string;
  readonly kind: ModeLockKind;
  readonly clock: Clock;
  /** Called once if the lock was lost with its connection and another process has taken it meanwhile. */
  readonly onLost: (error: StartupError) => void;
}

/** Any two numbers that no other program is likely to use for advisory locks: "Fanf" and 1. */
const LOCK = [0x46616e66, 1] as const;
const RETRY_MS = 500;

/**
 * Keeps apart processes that can't work on one database: without Redis there may be one, with Redis any number. The lock
 * is held by the session of a connection of its own and goes with it; a lost connection is opened anew.
 * @returns what releases it
 * @throws StartupError if another process holds it
 */
export async function takeModeLock(options: ModeLockOptions): Promise<() => Promise<void>> {
  const stop = new AbortController();
  let client = await connect(options);
  if (client === undefined) throw refusal(options.kind);
  watch(client);

  function watch(current: pg.Client): void {
    current.once('end', () => {
      if (!stop.signal.aborted) void regain();
    });
    current.on('error', () => {}); // 'end' follows
  }

  /** Until the database is back; then either the lock is ours again, or the process has to go. */
  async function regain(): Promise<void> {
    while (!stop.signal.aborted) {
      try {
        client = await connect(options);
        if (client === undefined) return options.onLost(refusal(options.kind));
        return watch(client);
      } catch {
        await options.clock.wait(RETRY_MS, stop.signal);
      }
    }
  }

  return async () => {
    stop.abort();
    await client?.end();
  };
}

/** A connection that holds the lock; undefined if another holds it. Rejects if the database can't be reached. */
async function connect({ url, kind }: ModeLockOptions): Promise<pg.Client | undefined> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'fanfare lock',
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
  });
  client.on('error', () => {}); // reported by whoever awaits
  await client.connect();
  const take = kind === 'exclusive' ? 'pg_try_advisory_lock' : 'pg_try_advisory_lock_shared';
  const { rows } = await client.query<{ taken: boolean }>(`select ${take}($1, $2) as taken`, [...LOCK]);
  if (rows[0]?.taken === true) return client;
  await client.end();
  return undefined;
}

function refusal(kind: ModeLockKind): StartupError {
  return new StartupError(
    kind === 'exclusive'
      ? 'another Fanfare process works on this database: without REDIS_URL there can be only one. Stop it, or give all of them a REDIS_URL'
      : 'a Fanfare process without REDIS_URL works on this database alone. Stop it, or give it the REDIS_URL too',
  );
}
