import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeKey } from '../../src/identity/key-format.ts';
import { eventually } from '../../test/support/eventually.ts';
import type { Bed } from './bed.ts';

/** A server in a process of its own, as `npm start` runs it. */
export interface Server {
  readonly pid: number;
  readonly url: string;
  readonly wsUrl: string;
  /** Its admin key. */
  readonly key: string;
  /** SIGTERM; SIGKILL if it has not ended 20 s later. */
  stop(): Promise<void>;
}

export interface ServerOptions {
  /** Names it in profiles and messages. */
  readonly name: string;
  readonly env: Readonly<Record<string, string>>;
}

/** One receiver stands for those of all webhooks. */
const ONE_RECEIVER = { WEBHOOKS_PER_ORIGIN: '100000', WEBHOOK_ORIGIN_RATE: '1000000' };
const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

/**
 * Starts a server that the bed owns, with the settings' defaults where `env` has no other, but for what one receiver takes; its log goes into a file.
 * @throws Error with its last words if it ends before it serves
 */
export async function startServer(bed: Bed, { name, env }: ServerOptions): Promise<Server> {
  const cwd = await mkdtemp(join(bed.dir, `${name}-`));
  const key = env.ADMIN_API_KEY ?? makeKey();
  const log = await open(join(cwd, 'log'), 'w');
  const child = spawn(process.execPath, [...bed.nodeOptions(name), MAIN], {
    cwd,
    env: { PATH: process.env.PATH ?? '', PORT: '0', DRAIN_SECONDS: '2', ADMIN_API_KEY: key, ...ONE_RECEIVER, ...env },
    stdio: ['ignore', log.fd, log.fd],
  });
  await log.close();
  const ended = once(child, 'close');
  const stop = async () => {
    child.kill('SIGCONT'); // a bench may have frozen it
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
    await ended;
    clearTimeout(timer);
  };
  bed.own({ stop });
  const address = await eventually(() => readAddress(join(cwd, 'log'), () => child.exitCode === null), {
    deadlineMs: 60_000,
    everyMs: 50,
  });
  if (address === undefined) throw new Error(`${name} did not start: ${await readFile(join(cwd, 'log'), 'utf8')}`);
  const url = `${address}/graphql`;
  return { pid: child.pid ?? 0, url, wsUrl: url.replace('http', 'ws'), key, stop };
}

/** @returns undefined if it has ended, false while there is nothing to read yet */
async function readAddress(logFile: string, isAlive: () => boolean): Promise<string | undefined | false> {
  const address = /on (http:\/\/[\w.[\]:]+)/.exec(await readFile(logFile, 'utf8'))?.[1];
  return address ?? (isAlive() ? false : undefined);
}

/** Processes in roles on one Postgres and Redis. */
export interface Cluster {
  readonly databaseUrl: string;
  /** The settings that its processes share. */
  readonly env: Readonly<Record<string, string>>;
  readonly api: Server;
  readonly relay: Server;
  /** Only if it was asked for. */
  readonly webhooks: Server | undefined;
}

/** Starts one process for each role, on a new database. */
export async function startCluster(bed: Bed, { webhooks = false } = {}): Promise<Cluster> {
  const databaseUrl = await bed.createDatabase();
  const shared = {
    ...postgresEnv(databaseUrl),
    REDIS_URL: bed.redisUrl,
    ADMIN_API_KEY: makeKey(),
    WEBHOOK_ALLOW_CIDRS: '127.0.0.0/8',
  };
  const start = (role: string) => startServer(bed, { name: role, env: { ...shared, ROLES: role } });
  return {
    databaseUrl,
    env: shared,
    api: await start('api'),
    relay: await start('relay'),
    webhooks: webhooks ? await start('webhooks') : undefined,
  };
}

/** The settings of a server on this database. */
export function postgresEnv(databaseUrl: string): Readonly<Record<string, string>> {
  return { DATABASE_URL: databaseUrl, SECRETS_KEY: randomBytes(32).toString('hex') };
}

/** A folder for an embedded server's data. */
export async function makeDataDir(bed: Bed): Promise<string> {
  const dir = join(bed.dir, `embedded-${randomBytes(4).toString('hex')}`);
  await mkdir(dir, { mode: 0o700 });
  return dir;
}
