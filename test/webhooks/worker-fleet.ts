import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { sql } from 'kysely';
import { inject } from 'vitest';
import { childEnv } from '../support/child-env.ts';
import { eventually } from '../support/eventually.ts';
import { urlOfDatabase } from '../support/postgres-client.ts';
import type { WebhookEngine } from './webhook-engine.ts';

/** What a worker in a process of its own is told; for what is left out see `worker-process.ts`. */
export interface WorkerSettings {
  /** In the `user-agent` of its requests. */
  readonly version?: string;
  /** Of an attempt. */
  readonly deadlineMs?: number;
  readonly leaseMs?: number;
  readonly attemptMs?: number;
  readonly pollMs?: number;
  /** Whom it asks for the names of receivers. */
  readonly nameServer?: string;
  /** Says nothing of attempts: they are many. */
  readonly isQuiet?: boolean;
  /** Sends as one does who trusts his receivers: a control. */
  readonly isNaive?: boolean;
}

/** The times of a server as it is shipped, by the defaults of the worker and the sender. */
export const AS_SHIPPED = { deadlineMs: 15_000, leaseMs: 4_000, attemptMs: 16_000, pollMs: 250 };

/** A worker in a process of its own, each with a name that its requests tell. */
export interface FleetWorker {
  readonly name: string;
  /** What it has observed so far. */
  readonly seen: readonly Readonly<Record<string, unknown>>[];
  /** Resolves when it works. @throws Error if it ended before */
  started(): Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  signal(name: 'SIGSTOP' | 'SIGCONT'): void;
  /** What the system has given it, garbage included, in bytes. */
  rss(): number;
  /** What it has used of the processor so far, in ms. */
  cpuMs(): number;
  /** After a forced collection. */
  memory(): Promise<WorkerMemory>;
}

/** In bytes. */
export interface WorkerMemory {
  /** By the program: objects, buffers and what else hangs on them. */
  readonly held: number;
  readonly rss: number;
}

/** Workers in processes of their own, on one Postgres. */
export interface Fleet {
  /** Starts another, without waiting for it. */
  launch(settings?: WorkerSettings): FleetWorker;
  /** Ends all that still run. */
  close(): Promise<void>;
}

const PROGRAM = fileURLToPath(new URL('./worker-process.ts', import.meta.url));
const USER_AGENT = 'Fanfare/';

/** Who sent a request, by its `user-agent`: the name of a worker. */
export function senderOf(userAgent: string | undefined): string {
  return userAgent?.slice(USER_AGENT.length) ?? '';
}

/** Of an engine on Postgres. */
export async function databaseUrlOf({ services }: Pick<WebhookEngine, 'services'>): Promise<string> {
  const { rows } = await sql<{ name: string }>`select current_database() as name`.execute(services.database.db);
  return urlOfDatabase(inject('run').databaseUrl, rows[0]?.name ?? '');
}

/** @param url of the database */
export function openFleet(url: string, all: WorkerSettings = {}): Fleet {
  const workers: FleetWorker[] = [];
  return {
    launch(own = {}) {
      const name = `worker-${workers.length}`;
      const worker = launchWorker(name, [url, JSON.stringify({ ...all, ...own, version: name })]);
      workers.push(worker);
      return worker;
    },
    close: async () => {
      await Promise.all(workers.map((worker) => worker.kill()));
    },
  };
}

function launchWorker(name: string, args: readonly string[]): FleetWorker {
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    cwd: inject('run').scratchDir,
    env: childEnv(),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const seen: Record<string, unknown>[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => seen.push(JSON.parse(line)));
  const isGone = () => child.exitCode !== null || child.signalCode !== null;
  return {
    name,
    seen,
    async started() {
      await eventually(() => isGone() || seen.some((each) => each.name === 'worker.started'), {
        describe: `${name} to start`,
      });
      if (isGone()) throw new Error(`${name} ended with ${child.exitCode ?? child.signalCode}`);
    },
    async kill() {
      if (!isGone()) child.kill('SIGKILL');
      await exited;
    },
    signal: (signal) => void child.kill(signal),
    rss: () => readRss(child.pid ?? 0),
    cpuMs: () => readCpuMs(child.pid ?? 0),
    async memory() {
      const measured = () => seen.filter((each) => each.name === 'worker.memory');
      const earlier = measured().length;
      child.kill('SIGUSR2');
      const last = await eventually(() => measured()[earlier] ?? false, { describe: `${name} to measure its memory` });
      return { held: Number(last.heapUsed) + Number(last.external), rss: Number(last.rss) };
    },
  };
}

function readRss(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes) * 1_024;
}

/** Its own time and the system's for it, of all threads; a tick is 10 ms on any Linux. */
function readCpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
