import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { canInstallWithApt, installWithApt } from './apt.ts';

interface Program {
  readonly label: string;
  /** The Debian package. */
  readonly apt: string;
  readonly variable: string;
  readonly find: () => string | undefined;
}

const POSTGRES: Program = {
  label: 'PostgreSQL 15 or newer (initdb, postgres)',
  apt: 'postgresql',
  variable: 'TEST_DATABASE_URL',
  find: () => firstRecentEnough('postgres', { atLeast: 15, folders: [...pathFolders(), ...debianPostgresFolders()] }),
};

const REDIS: Program = {
  label: 'Redis 7 or newer (redis-server)',
  apt: 'redis-server',
  variable: 'TEST_REDIS_URL',
  find: () => firstRecentEnough('redis-server', { atLeast: 7, folders: pathFolders() }),
};

/** The folder that holds `initdb` and `postgres`; throws the one message if there is none. */
export function postgresDir(): string {
  return dirname(found(POSTGRES));
}

/** The path of `redis-server`; throws the one message if there is none. */
export function redisServerPath(): string {
  return found(REDIS);
}

/** Installs with apt what is needed and missing, if it may; otherwise throws one message for all of it. */
export async function ensureServerPrograms(needed: { postgres: boolean; redis: boolean }): Promise<void> {
  const missing = () =>
    [...(needed.postgres ? [POSTGRES] : []), ...(needed.redis ? [REDIS] : [])].filter((program) => !program.find());
  const lacking = missing();
  if (lacking.length > 0 && canInstallWithApt()) await installWithApt(lacking.map((program) => program.apt));
  const stillLacking = missing();
  if (stillLacking.length > 0) throw new Error(instructions(stillLacking));
}

function found(program: Program): string {
  const path = program.find();
  if (path === undefined) throw new Error(instructions([program]));
  return path;
}

function instructions(lacking: readonly Program[]): string {
  const urls = lacking.map((program) => program.variable).join(' and ');
  return [
    `the tests run against real servers, and this machine lacks ${lacking.map((program) => program.label).join(' and ')}`,
    `install them (Debian: apt-get install ${lacking.map((program) => program.apt).join(' ')}),`,
    `or run the tests as root on Debian, which does it for you, or set ${urls} to servers that tests may write to`,
    '(tests that kill their own servers need the programs in any case)',
  ].join('\n');
}

function firstRecentEnough(name: string, options: { atLeast: number; folders: readonly string[] }): string | undefined {
  return options.folders
    .map((folder) => join(folder, name))
    .filter((path) => existsSync(path))
    .map((path) => realpathBeside(path, name))
    .find((path) => majorVersion(path) >= options.atLeast);
}

/** Follows links of whole installations (`/usr/local/bin/postgres`), not those between programs of other names. */
function realpathBeside(path: string, name: string): string {
  const real = realpathSync(path);
  return real.endsWith(`/${name}`) ? real : path;
}

function majorVersion(path: string): number {
  const output = execFileSync(path, ['--version'], { encoding: 'utf8' });
  return Number(/(?:PostgreSQL\) |v=)(\d+)/.exec(output)?.[1] ?? 0);
}

function pathFolders(): readonly string[] {
  return (process.env.PATH ?? '').split(delimiter).filter(Boolean);
}

function debianPostgresFolders(): readonly string[] {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root) : [];
  return versions.sort((a, b) => Number(b) - Number(a)).map((version) => join(root, version, 'bin'));
}
