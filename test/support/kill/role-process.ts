import { setTimeout as wait } from 'node:timers/promises';
import { spawnFanfare } from '../fanfare-process.ts';
import { freePort } from '../servers.ts';

/** A server process that is started again on its port whenever the test kills it. */
export interface RoleProcess {
  readonly name: string;
  readonly url: string;
  readonly wsUrl: string;
  /** `kill -9`, and the next start at once: resolves when that is under way. */
  kill(): Promise<void>;
  /** Waits until it serves. @throws Error with its output if it ended though nobody killed it */
  stands(): Promise<void>;
  readonly kills: { readonly all: number; readonly whileStarting: number };
  /** Freezes it with SIGSTOP, lets it go on with SIGCONT. */
  signal(name: 'SIGSTOP' | 'SIGCONT'): void;
  /** SIGTERM, and no start. @returns the exit code */
  stop(): Promise<number | null>;
  /** `kill -9`, in whatever state it is, and no start. */
  end(): Promise<void>;
}

const START_WITHIN_MS = 60_000;

/** Starts it for the first time, without waiting. */
export async function startRole(name: string, env: Readonly<Record<string, string>>): Promise<RoleProcess> {
  const port = await freePort();
  const start = () => spawnFanfare({ ...env, PORT: String(port) });
  let current = await start();
  const kills = { all: 0, whileStarting: 0 };
  const isServing = () => current.output().includes(`http://127.0.0.1:${port}`);

  function requireAlive(): void {
    const { exitCode, signalCode } = current.child;
    if (exitCode === null && signalCode === null) return;
    throw new Error(`${name} ended by itself with ${exitCode ?? signalCode}: ${current.output()}`);
  }

  return {
    name,
    kills,
    url: `http://127.0.0.1:${port}/graphql`,
    wsUrl: `ws://127.0.0.1:${port}/graphql`,
    async kill() {
      requireAlive();
      kills.all += 1;
      if (!isServing()) kills.whileStarting += 1;
      current.child.kill('SIGKILL');
      await current.exited;
      current = await start();
    },
    async stands() {
      const deadline = performance.now() + START_WITHIN_MS;
      while (!isServing()) {
        requireAlive();
        if (performance.now() > deadline) throw new Error(`${name} does not serve yet: ${current.output()}`);
        await wait(10);
      }
      requireAlive();
    },
    signal: (signal) => void current.child.kill(signal),
    stop() {
      current.child.kill('SIGTERM');
      return current.exited;
    },
    async end() {
      current.child.kill('SIGKILL');
      await current.exited;
    },
  };
}
