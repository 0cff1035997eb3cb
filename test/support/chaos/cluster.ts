import pg from 'pg';
import { makeKey } from '../../../src/identity/key-format.ts';
import { createTestDatabase } from '../database.ts';
import { eventually } from '../eventually.ts';
import { type RoleProcess, startRole } from '../kill/role-process.ts';
import { startTestRedis } from '../redis.ts';
import type { RedisServer } from '../redis-server.ts';
import type { LoggedEvent } from './record.ts';

/** Two nodes that clients talk to, two relays, on a database and a Redis of their own. */
export interface Cluster {
  readonly key: string;
  readonly databaseUrl: string;
  readonly redis: RedisServer;
  readonly nodes: readonly RoleProcess[];
  readonly urls: readonly string[];
  /** Events stamped so far. */
  head(): Promise<number>;
  /** Who leads the account's shard: the one of the two relays, and its lease. */
  leader(): Promise<{ readonly relay: RoleProcess; readonly owner: string }>;
  readLog(): Promise<LoggedEvent[]>;
  /** Events that are committed and not stamped. */
  unstamped(): Promise<number>;
  close(): Promise<void>;
}

export async function startCluster(): Promise<Cluster> {
  await using opening = new AsyncDisposableStack();
  const [database, redis] = await Promise.all([createTestDatabase(), startTestRedis()]);
  opening.defer(async () => {
    await redis.close();
    await database.drop();
  });
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  opening.defer(() => client.end());
  const key = makeKey();
  const env = {
    ADMIN_API_KEY: key,
    DRAIN_SECONDS: '1',
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    SECRETS_KEY: 'ab'.repeat(32),
  };
  const started: RoleProcess[] = [];
  opening.defer(async () => {
    await Promise.all(started.map((role) => role.end()));
  });
  const start = async (name: string, roles: string) => {
    const role = await startRole(name, { ...env, ROLES: roles });
    started.push(role);
    return role;
  };
  // one after the other, so that each is known by what it calls itself in the database
  const owners = new Map<string, RoleProcess>();
  for (const name of ['relay 1', 'relay 2']) {
    const relay = await start(name, 'relay');
    await relay.stands();
    owners.set(await newOwner(client, owners), relay);
  }
  const nodes = [await start('node 1', 'api'), await start('node 2', 'api')];
  await Promise.all(nodes.map((node) => node.stands()));
  const opened = opening.move();
  return {
    key,
    databaseUrl: database.url,
    redis,
    nodes,
    urls: nodes.map(({ url }) => url),
    head: () => readNumber(client, "select position as n from fanfare.head where account_id = 'acc_default'"),
    unstamped: () => readNumber(client, 'select count(*) as n from fanfare.outbox'),
    leader: () => readLeader(client, owners),
    readLog: () => readLog(client),
    close: () => opened.disposeAsync(),
  };
}

function newOwner(client: pg.Client, known: ReadonlyMap<string, unknown>): Promise<string> {
  return eventually(
    async () => {
      const { rows } = await client.query<{ id: string }>('select id from fanfare.process');
      return rows.find(({ id }) => !known.has(id))?.id ?? false;
    },
    { describe: 'a relay to claim its shards' },
  );
}

function readLeader(
  client: pg.Client,
  owners: ReadonlyMap<string, RoleProcess>,
): Promise<{ readonly relay: RoleProcess; readonly owner: string }> {
  const find = async () => {
    const { rows } = await client.query<{ owner: string }>(
      `select s.owner from fanfare.shard s join fanfare.account a on a.shard = s.id
       where a.id = 'acc_default' and s.lease_until > clock_timestamp()`,
    );
    const owner = rows[0]?.owner ?? '';
    const relay = owners.get(owner);
    return relay === undefined ? false : { relay, owner };
  };
  return eventually(find, { describe: 'a leader of the account' });
}

async function readNumber(client: pg.Client, query: string): Promise<number> {
  return Number((await client.query<{ n: string }>(query)).rows[0]?.n ?? 0);
}

async function readLog(client: pg.Client): Promise<LoggedEvent[]> {
  const { rows } = await client.query<LoggedEvent>(
    `select l.position::int as position, e.id, e.name, e.subject_id as "subjectId"
     from fanfare.log l join fanfare.event e on e.seq = l.seq
     where l.account_id = 'acc_default' order by l.position`,
  );
  return rows;
}
