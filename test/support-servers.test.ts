import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Redis } from 'ioredis';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { openPglite } from '../src/database/connect.ts';
import { createEmbeddedFolder, createTestDatabase, startTestPostgres } from './support/database.ts';
import { eventually } from './support/eventually.ts';
import { withClient } from './support/postgres-client.ts';
import type { PostgresServer } from './support/postgres-server.ts';
import { redisUrl, startTestRedis } from './support/redis.ts';
import { processesIn } from './support/scratch.ts';

describe('a test database', () => {
  it('is cloned many times at once, each migrated and alone', async () => {
    const databases = await Promise.all(Array.from({ length: 6 }, createTestDatabase));
    const ids = await Promise.all(databases.map(({ url }) => withClient(url, installationId)));
    expect(new Set(ids).size).toBe(6);
    await Promise.all(databases.map((database) => database.drop()));
  });

  it('moves the clock of schedules alone', async () => {
    const database = await createTestDatabase();
    await database.advanceClock(3_600_000);
    await withClient(database.url, async (client) => {
      const { rows } = await client.query("select fanfare.now() - clock_timestamp() > '59 min' as moved");
      expect(rows).toEqual([{ moved: true }]);
    });
    await database.drop();
  });

  it('fails the test that leaves a connection open, and is dropped', async () => {
    const database = await createTestDatabase();
    const forgotten = new pg.Client({ connectionString: database.url });
    forgotten.on('error', () => {}); // the drop ends it
    await forgotten.connect();
    await expect(database.drop({ deadlineMs: 300 })).rejects.toThrow('1 left');
    await expect(withClient(database.url, installationId)).rejects.toMatchObject({ code: '3D000' });
  });

  it('is embedded as a folder that opens migrated', async () => {
    const folder = await createEmbeddedFolder();
    const database = await openPglite({ dataDir: join(folder.dataDir, 'pglite') });
    expect(await database.db.selectFrom('fanfare.shard').select('id').execute()).toHaveLength(16);
    await database.close();
    await folder.remove();
    expect(existsSync(folder.dataDir)).toBe(false);
  });
});

describe('a Postgres of its own', () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startTestPostgres();
    await withClient(server.url, (client) => client.query('create table kept (n int)'));
  });
  afterAll(() => server.close());

  it('keeps a committed row over kill -9 and answers on the same port', async () => {
    await withClient(server.url, (client) => client.query('insert into kept values (1)'));
    await server.kill();
    await expect(withClient(server.url, countKept)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await server.start();
    expect(await withClient(server.url, countKept)).toBe(1);
  });

  it('refuses while stopped and comes back', async () => {
    await server.stop();
    await expect(withClient(server.url, countKept)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await server.start();
    expect(await withClient(server.url, countKept)).toBe(1);
  });

  it('is silent while frozen and answers the same connection after', async () => {
    await withClient(server.url, async (client) => {
      await server.freeze();
      let isAnswered = false;
      const answer = countKept(client).finally(() => {
        isAnswered = true;
      });
      await expect(eventually(() => isAnswered, { deadlineMs: 300 })).rejects.toThrow('returned false');
      server.thaw();
      expect(await answer).toBe(1);
    });
  });

  it('is killed while frozen', async () => {
    await server.freeze();
    await server.kill();
    await server.start();
    expect(await withClient(server.url, countKept)).toBe(1);
  });

  it('waits for the disk when durable', async () => {
    const durable = await startTestPostgres({ durable: true });
    const { rows } = await withClient(durable.url, (client) => client.query('show fsync'));
    await durable.close();
    expect(rows).toEqual([{ fsync: 'on' }]);
  });

  it('leaves no process and no folder when closed', async () => {
    const { scratchDir } = inject('run');
    const before = await readdir(scratchDir);
    const second = await startTestPostgres();
    const [folder] = (await readdir(scratchDir)).filter(
      (name) => name.startsWith('postgres-') && !before.includes(name),
    );
    const dir = join(scratchDir, String(folder));
    expect(processesIn(dir).length).toBeGreaterThan(1);
    await second.close();
    await second.close();
    expect(processesIn(dir)).toEqual([]);
    expect(existsSync(dir)).toBe(false);
  });
});

describe('a Redis of its own', () => {
  it('comes back empty on the same port after kill -9', async () => {
    const server = await startTestRedis();
    await withRedis(server.url, (redis) => redis.set('note', 'gone soon'));
    await server.kill();
    await server.start();
    expect(await withRedis(server.url, (redis) => redis.get('note'))).toBeNull();
    await server.close();
  });

  it('is silent while frozen and answers the same connection after', async () => {
    const server = await startTestRedis();
    await withRedis(server.url, async (redis) => {
      await redis.ping();
      await server.freeze();
      let isAnswered = false;
      const answer = redis.ping().finally(() => {
        isAnswered = true;
      });
      await expect(eventually(() => isAnswered, { deadlineMs: 300 })).rejects.toThrow('returned false');
      server.thaw();
      expect(await answer).toBe('PONG');
    });
    await server.close();
  });

  it('stands beside the shared one, which answers', async () => {
    expect(await withRedis(redisUrl(), (redis) => redis.ping())).toBe('PONG');
  });
});

describe('the keeper', () => {
  it('ends a frozen server and removes the folder of a run that was killed', async () => {
    const run = await startDoomedRun();
    const { dir } = run;
    expect(processesIn(dir).length).toBeGreaterThan(0);
    run.child.kill('SIGKILL');
    await eventually(() => processesIn(dir).length === 0 && !existsSync(dir), { describe: `${dir} to be cleared` });
  });

  it('leaves a run alone that lives', async () => {
    const run = await startDoomedRun();
    const pids = processesIn(run.dir);
    // The keeper of another run clears its own folder meanwhile, and nothing else.
    const other = await startDoomedRun();
    other.child.kill('SIGKILL');
    await eventually(() => !existsSync(other.dir));
    expect(processesIn(run.dir)).toEqual(pids);
    run.child.kill('SIGKILL');
    await eventually(() => !existsSync(run.dir));
  });
});

/** Another process that starts a Redis in a scratch folder of its own, freezes it, and then waits for its end. */
async function startDoomedRun() {
  const support = (name: string) => JSON.stringify(new URL(name, import.meta.url).href);
  const program = `
    const { openScratch } = await import(${support('./support/scratch.ts')});
    const { startRedis } = await import(${support('./support/redis-server.ts')});
    const scratch = await openScratch();
    const redis = await startRedis({ scratchDir: scratch.dir });
    await redis.freeze();
    console.log(scratch.dir);
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [dir] = await once(createInterface(child.stdout), 'line');
  return { child, dir: String(dir) };
}

async function installationId(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ id: string }>('select id from fanfare.installation');
  return String(rows[0]?.id);
}

async function countKept(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ count: number }>('select count(*)::int as count from kept');
  return Number(rows[0]?.count);
}

async function withRedis<T>(url: string, work: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url);
  redis.on('error', () => {}); // a refused attempt is repeated
  try {
    return await work(redis);
  } finally {
    redis.disconnect();
  }
}
