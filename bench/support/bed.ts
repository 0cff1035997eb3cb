import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { urlOfDatabase, withClient } from '../../test/support/postgres-client.ts';
import { type PostgresServer, startPostgres } from '../../test/support/postgres-server.ts';
import { type RedisServer, startRedis } from '../../test/support/redis-server.ts';
import { openScratch, processesIn } from '../../test/support/scratch.ts';
import { type Methods, startWorker, type Worker } from '../../test/support/worker.ts';
import { trackStatements } from './statements.ts';
import type { Parts } from './usage.ts';

/** What benches run on: a Postgres and a Redis of their own, and processes that all end with it. */
export interface Bed {
  /** Folder of everything that is written; a process whose working directory is inside ends with the bed. */
  readonly dir: string;
  readonly redisUrl: string;
  /** Of a database that nothing is measured in. */
  readonly adminUrl: string;
  /** Makes an empty database. @returns its URL */
  createDatabase(): Promise<string>;
  /** Says whose processes are started from now on: their profiles go into a folder of this name. */
  begin(bench: string): void;
  /** Options for Node that make a process write a CPU profile when it ends; none unless profiles were asked for. */
  nodeOptions(name: string): readonly string[];
  startWorker<M extends Methods>(program: URL): Worker<M>;
  /** Has the bed stop it at the end of the bench. */
  own<T extends { stop(): Promise<unknown> }>(resource: T): T;
  /** Postgres and Redis as parts of a usage measurement. */
  readonly parts: Parts;
  /** Stops what the last bench owned, newest first. */
  stopOwned(): Promise<void>;
  /** Ends every process of the bed and removes its folder. */
  close(): Promise<void>;
}

export interface BedOptions {
  /** Absolute: the folder for CPU profiles of all processes of Node; Postgres then counts statements all the time, too. */
  readonly profileDir: string | undefined;
}

/** Starts Postgres, which waits for the disk at each commit as in production, and Redis, both on free ports of loopback. */
export async function openBed({ profileDir }: BedOptions): Promise<Bed> {
  const scratch = await openScratch();
  try {
    const [postgres, redis] = await Promise.all([
      startTunedPostgres(scratch.dir, profileDir !== undefined),
      startRedis({ scratchDir: scratch.dir }),
    ]);
    return createBed({ dir: scratch.dir, close: scratch.close, profileDir, postgres, redis });
  } catch (error) {
    await scratch.close();
    throw error;
  }
}

interface BedParts extends BedOptions {
  readonly dir: string;
  readonly postgres: PostgresServer;
  readonly redis: RedisServer;
  close(): Promise<void>;
}

function createBed({ dir, postgres, redis, profileDir, close }: BedParts): Bed {
  const owned: { stop(): Promise<unknown> }[] = [];
  let folder = profileDir;
  let started = 0;
  const bed: Bed = {
    dir,
    redisUrl: redis.url,
    adminUrl: postgres.url,
    createDatabase: () => createDatabase(postgres.url),
    begin(bench) {
      folder = profileDir && join(profileDir, bench);
    },
    nodeOptions: (name) =>
      folder === undefined
        ? []
        : ['--cpu-prof', `--cpu-prof-dir=${folder}`, `--cpu-prof-name=${started++}-${name}.cpuprofile`],
    startWorker: (program) => {
      const name = program.pathname.replace(/^.*\/|\.ts$/g, '');
      return bed.own(startWorker(program, { cwd: dir, execArgv: bed.nodeOptions(name) }));
    },
    own(resource) {
      owned.push(resource);
      return resource;
    },
    parts: {
      Postgres: () => processesIn(dir).filter(isNamed('postgres')),
      Redis: () => processesIn(dir).filter(isNamed('redis-server')),
    },
    async stopOwned() {
      for (const resource of owned.splice(0).reverse()) await resource.stop();
    },
    async close() {
      // in order, so that what still runs does not complain of a database that has gone
      await bed.stopOwned().catch(() => {});
      await close();
    },
  };
  return bed;
}

/** Commit times are what latency is counted from. Statements are counted for a profile, or while a bench asks for it. */
async function startTunedPostgres(scratchDir: string, profiles: boolean): Promise<PostgresServer> {
  const postgres = await startPostgres({ scratchDir, durable: true });
  await withClient(postgres.url, async (client) => {
    await client.query('alter system set track_commit_timestamp = on');
    await client.query("alter system set shared_buffers = '256MB'");
    await client.query("alter system set shared_preload_libraries = 'pg_stat_statements'");
  });
  await postgres.stop();
  await postgres.start();
  if (profiles) await trackPlanning(postgres.url);
  await trackStatements(postgres.url, profiles ? 'all' : 'none');
  return postgres;
}

/** How long statements were planned; new connections take it over. */
async function trackPlanning(url: string): Promise<void> {
  await withClient(url, (client) => client.query('alter system set pg_stat_statements.track_planning = on'));
}

async function createDatabase(serverUrl: string): Promise<string> {
  const name = `bench_${randomBytes(6).toString('hex')}`;
  await withClient(serverUrl, (client) => client.query(`create database ${name}`));
  return urlOfDatabase(serverUrl, name);
}

function isNamed(program: string): (pid: number) => boolean {
  return (pid) => {
    try {
      return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === program;
    } catch {
      return false; // it ended meanwhile
    }
  };
}
