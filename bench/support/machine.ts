import { execFile } from 'node:child_process';
import { cpus, totalmem } from 'node:os';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import { withClient } from '../../test/support/postgres-client.ts';

/** Where and when figures were measured, and what of. */
export interface Machine {
  readonly cores: number;
  readonly model: string;
  readonly memoryGb: number;
  readonly node: string;
  readonly postgres: string;
  readonly redis: string;
  /** ISO 8601, UTC. */
  readonly date: string;
  /** Of the working tree; with `+` if files differ from it, `unknown` outside of a repository. */
  readonly commit: string;
}

const run = promisify(execFile);

export async function describeMachine(
  { databaseUrl, redisUrl }: { readonly databaseUrl: string; readonly redisUrl: string },
  now = new Date(),
): Promise<Machine> {
  const [first] = cpus();
  return {
    cores: cpus().length,
    model: first?.model.trim() ?? 'unknown',
    memoryGb: Math.round(totalmem() / 2 ** 30),
    node: process.versions.node,
    postgres: await readPostgresVersion(databaseUrl),
    redis: await readRedisVersion(redisUrl),
    date: now.toISOString(),
    commit: await readCommit(),
  };
}

/** One line, for above the table. */
export function printMachine(machine: Machine): string {
  const { cores, model, memoryGb, node, postgres, redis, date, commit } = machine;
  return `${cores} cores (${model}), ${memoryGb} GB, Node ${node}, Postgres ${postgres}, Redis ${redis}; ${date.slice(0, 10)}, commit ${commit}`;
}

async function readPostgresVersion(databaseUrl: string): Promise<string> {
  return withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<{ server_version: string }>('show server_version');
    return rows[0]?.server_version.split(' ', 1)[0] ?? 'unknown';
  });
}

async function readRedisVersion(redisUrl: string): Promise<string> {
  const redis = new Redis(redisUrl);
  try {
    return /^redis_version:(.+?)\r?$/m.exec(await redis.info('server'))?.[1] ?? 'unknown';
  } finally {
    redis.disconnect();
  }
}

async function readCommit(): Promise<string> {
  try {
    const cwd = import.meta.dirname;
    const { stdout: commit } = await run('git', ['rev-parse', '--short', 'HEAD'], { cwd });
    const { stdout: changes } = await run('git', ['status', '--porcelain', '--', ':/src', ':/schema', ':/migrations'], {
      cwd,
    });
    return `${commit.trim()}${changes === '' ? '' : '+'}`;
  } catch {
    return 'unknown';
  }
}
