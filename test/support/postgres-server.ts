import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { appendFile, chown, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { postgresDir } from './binaries.ts';
import { createServerFolder, runServer, serverAccount, type ThrowawayServer } from './servers.ts';

export interface PostgresServer extends ThrowawayServer {
  /** The superuser's URL of the database `postgres`. */
  readonly url: string;
}

export interface PostgresOptions {
  /** A run's scratch folder: whatever happens to the caller, its keeper ends the server and removes its files. */
  readonly scratchDir: string;
  /**
   * Waits for the disk at each commit, as in production. Without it a commit survives `kill -9` all the same, since
   * the kernel has the bytes by then; only a loss of power would show the difference. @default false
   */
  readonly durable?: boolean;
}

const run = promisify(execFile);

/** Starts an empty Postgres of its own on a free port of 127.0.0.1, in a fresh folder. */
export async function startPostgres({ scratchDir, durable = false }: PostgresOptions): Promise<PostgresServer> {
  const programs = postgresDir();
  const dir = await createServerFolder(scratchDir, 'postgres');
  const password = randomBytes(12).toString('hex');
  await initialize(dir, { programs, password, durable });
  const urlAt = (port: number) => `postgres://postgres:${password}@127.0.0.1:${port}/postgres`;
  const server = await runServer({
    dir,
    command: (port) => ({ file: join(programs, 'postgres'), args: ['-D', join(dir, 'data'), '-p', String(port)] }),
    probe: (port) => connectOnce(urlAt(port)),
    stopSignal: 'SIGINT', // "fast": ends sessions instead of waiting for them
  });
  const close = async () => {
    await server.kill();
    await removeSharedMemory(dir);
    await server.close();
  };
  return { ...server, close, url: urlAt(server.port) };
}

interface Initialization {
  readonly programs: string;
  readonly password: string;
  readonly durable: boolean;
}

async function initialize(dir: string, { programs, password, durable }: Initialization): Promise<void> {
  const passwordFile = join(dir, 'password');
  await writeFile(passwordFile, password, { mode: 0o600 });
  const account = serverAccount();
  if (account !== undefined) await chown(passwordFile, account.uid, account.gid);
  await run(join(programs, 'initdb'), [...INITDB, '-D', join(dir, 'data'), `--pwfile=${passwordFile}`], {
    ...account,
    cwd: dir,
  });
  await rm(passwordFile);
  await appendFile(join(dir, 'data', 'postgresql.conf'), settings({ dir, durable }));
}

// A dictionary's order, as many servers in production have it: a query that relies on bytes without `collate "C"` shows.
const INITDB = [
  ...['--username=postgres', '--auth=password', '--encoding=UTF8', '--no-sync'],
  ...['--locale=C.UTF-8', '--locale-provider=icu', '--icu-locale=en'],
];

// Dynamic shared memory as files of the data folder: in /dev/shm each `kill -9` would leave a megabyte behind, and a container
// has only 64.
function settings({ dir, durable }: { dir: string; durable: boolean }): string {
  return `
listen_addresses = '127.0.0.1'
unix_socket_directories = '${dir}'
max_connections = 400
shared_buffers = 64MB
dynamic_shared_memory_type = mmap
logging_collector = off
fsync = ${durable ? 'on' : 'off'}
full_page_writes = ${durable ? 'on' : 'off'}
`;
}

async function connectOnce(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  client.on('error', () => {}); // the server may go while it starts; `connect` or `query` reports it
  try {
    await client.connect();
    await client.query('select 1');
  } finally {
    await client.end();
  }
}

/** After `kill -9` the kernel keeps the few bytes by which a postmaster knows that it is alone: give them back. */
async function removeSharedMemory(dir: string): Promise<void> {
  const lockFile = await readFile(join(dir, 'data', 'postmaster.pid'), 'utf8').catch(() => '');
  const id = /^\s*\d+\s+(\d+)$/.exec(lockFile.split('\n')[6] ?? '')?.[1];
  if (id !== undefined) await run('ipcrm', ['-m', id], { ...serverAccount() }).catch(() => {}); // gone already
}
