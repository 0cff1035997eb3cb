import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { chown, mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { processesIn } from './scratch.ts';

/**
 * A real server that a test owns and may hurt. Port and data stay the same over all of these.
 *
 * - running: after `start()` or `thaw()`, answers;
 * - frozen: after `freeze()`, its connections stay open and silent;
 * - stopped: after `stop()` or `kill()`, the port refuses.
 */
export interface ThrowawayServer {
  readonly port: number;
  /** Starts it again after `stop()` or `kill()`; resolves when it answers. */
  start(): Promise<void>;
  /** Lets it shut down in order, closing its clients' connections. */
  stop(): Promise<void>;
  /** `kill -9` of the server and all its children at once; resolves when none is left. */
  kill(): Promise<void>;
  freeze(): Promise<void>;
  thaw(): void;
  /** Ends it in whatever state it is and removes its folder. May be called twice. */
  close(): Promise<void>;
}

export interface ServerSpec {
  /** The server's own folder, and the working directory of its processes. */
  readonly dir: string;
  readonly command: (port: number) => { readonly file: string; readonly args: readonly string[] };
  /** Rejects while the server does not answer. */
  readonly probe: (port: number) => Promise<void>;
  readonly stopSignal: NodeJS.Signals;
}

const START_DEADLINE_MS = 60_000;
const STOP_DEADLINE_MS = 30_000;
const PORT_ATTEMPTS = 5;

/** Starts the server on a free port; another program that takes the port in between costs another attempt. */
export async function runServer(spec: ServerSpec): Promise<ThrowawayServer> {
  const first = await startOnFreePort(spec);
  const { port } = first;
  let child: ChildProcess | undefined = first.child;
  const ended = async () => {
    await untilNoneIn(spec.dir, STOP_DEADLINE_MS);
    child = undefined;
  };
  const kill = async () => {
    // The server first: one that only sees its children die would begin to recover.
    child?.kill('SIGKILL');
    await untilNoneIn(spec.dir, STOP_DEADLINE_MS, 'SIGKILL');
    await ended();
  };
  return {
    port,
    async start() {
      if (child !== undefined) throw new Error(`the server on port ${port} is running already`);
      child = await launch(spec, port);
    },
    async stop() {
      child?.kill(spec.stopSignal);
      await ended();
    },
    kill,
    async freeze() {
      child?.kill('SIGSTOP');
      await untilFrozen(spec.dir);
    },
    thaw: () => signalAll(spec.dir, 'SIGCONT'),
    async close() {
      await kill();
      await rm(spec.dir, { recursive: true, force: true });
    },
  };
}

async function startOnFreePort(spec: ServerSpec): Promise<{ port: number; child: ChildProcess }> {
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    try {
      return { port, child: await launch(spec, port) };
    } catch (error) {
      const isTaken = String(error).includes('Address already in use');
      if (!isTaken || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

async function launch(spec: ServerSpec, port: number): Promise<ChildProcess> {
  const { file, args } = spec.command(port);
  const log = await open(join(spec.dir, 'log'), 'w');
  const child = spawn(file, args, {
    ...serverAccount(),
    cwd: spec.dir,
    detached: true, // so that Ctrl+C reaches the tests alone, and they end the server in order
    stdio: ['ignore', log.fd, log.fd],
  });
  // Listened for before anything is awaited, since it may fail at once; kept for as long as the child lives.
  const spawnFailed = new Promise<never>((_, reject) => child.once('error', reject));
  spawnFailed.catch(() => {});
  await log.close();
  await Promise.race([untilReady(spec, { port, child }), spawnFailed]);
  return child;
}

async function untilReady(spec: ServerSpec, { port, child }: { port: number; child: ChildProcess }): Promise<void> {
  const deadline = Date.now() + START_DEADLINE_MS;
  for (;;) {
    const problem = await spec.probe(port).then(
      () => undefined,
      (error: unknown) => error,
    );
    const isGone = child.exitCode !== null || child.signalCode !== null;
    // A stranger may answer on the port while ours is on its way out: being alive counts, too.
    if (problem === undefined && !isGone) return;
    if (isGone || Date.now() > deadline) {
      signalAll(spec.dir, 'SIGKILL');
      const log = await readFile(join(spec.dir, 'log'), 'utf8');
      throw new Error(`${child.spawnfile} did not start on port ${port}:\n${log.slice(-2_000)}`, { cause: problem });
    }
    await wait(20);
  }
}

/** Waits until no process works in `dir`, sending each the signal, if one is given, until it is gone. */
async function untilNoneIn(dir: string, deadlineMs: number, signal?: NodeJS.Signals): Promise<void> {
  const deadline = Date.now() + deadlineMs;
  for (let left = processesIn(dir); left.length > 0; left = processesIn(dir)) {
    if (Date.now() > deadline)
      throw new Error(`processes ${left.join(', ')} in ${dir} did not end in ${deadlineMs} ms`);
    if (signal !== undefined) signalAll(dir, signal);
    await wait(15);
  }
}

async function untilFrozen(dir: string): Promise<void> {
  const deadline = Date.now() + STOP_DEADLINE_MS;
  while (!processesIn(dir).every(isStopped)) {
    if (Date.now() > deadline) throw new Error(`the processes in ${dir} did not freeze in ${STOP_DEADLINE_MS} ms`);
    signalAll(dir, 'SIGSTOP');
    await wait(15);
  }
}

function isStopped(pid: number): boolean {
  try {
    return /^\d+ \(.*\) T/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return true; // it ended meanwhile
  }
}

function signalAll(dir: string, signal: NodeJS.Signals): void {
  for (const pid of processesIn(dir)) {
    try {
      process.kill(pid, signal);
    } catch {
      // it ended meanwhile
    }
  }
}

/**
 * A port of 127.0.0.1 that nothing listens on, below the range that outgoing connections are given their ports from:
 * a server that is down for a moment finds its port again.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(15_000, 32_000);
    const server = createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    await new Promise((resolve) => server.close(resolve));
    if (isFree) return port;
  }
}

/** A new folder inside `scratchDir`, owned by the account that servers run under. */
export async function createServerFolder(scratchDir: string, name: string): Promise<string> {
  if (process.platform !== 'linux') {
    throw new Error('tests that start and kill servers of their own need Linux: they find processes through /proc');
  }
  const dir = await mkdtemp(join(scratchDir, `${name}-`));
  const account = serverAccount();
  if (account !== undefined) await chown(dir, account.uid, account.gid);
  return dir;
}

/** Postgres refuses to run as root: then servers run as `postgres`, or else `nobody`. Undefined: as ourselves. */
export function serverAccount(): { readonly uid: number; readonly gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const accounts = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  const account = ['postgres', 'nobody'].map((name) => accounts.find((fields) => fields[0] === name)).find(Boolean);
  if (account === undefined) throw new Error('no account `postgres` or `nobody` to run servers under, and not as root');
  return { uid: Number(account[2]), gid: Number(account[3]) };
}
