import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { makeKey } from '../src/identity/key-format.ts';
import { eventually } from '../test/support/eventually.ts';
import type { Broadcast } from './baselines/broadcast.ts';
import type { Bed } from './support/bed.ts';
import type { Crowd } from './support/crowd-program.ts';
import type { Row } from './support/report.ts';
import { interleave } from './support/rounds.ts';
import { postgresEnv, startServer } from './support/server.ts';
import { emitStockChanges } from './support/store.ts';
import { type Audience, untilAllHear } from './support/waves.ts';

/** Growth is measured between these: what a process costs without sockets is not in it. */
const FEW = 3_000;
const MANY = 9_000;
/** V8 gives pages back some time after a collection. */
const SETTLE_MS = 1_500;
const GARBAGE_COLLECTOR = new URL('support/collect-garbage.ts', import.meta.url).href;

/** Resident bytes for each socket, by growth. */
interface Round {
  readonly perSocket: number;
}

/** A sender in a fresh process, without any socket yet. */
interface Sender {
  readonly pid: number;
  readonly url: string;
  readonly key: string;
  send(events: number): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Resident memory of a socket with one subscription, by the growth from 3,000 to 9,000 sockets, against a bare `ws` server whose
 * clients have sent the same messages. Each round has fresh processes: a process does not give back what it had at its peak.
 * @throws Error if a process may not open as many files
 */
export async function benchMemory(bed: Bed, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  requireOpenFiles(MANY + 500);
  const { subject, baseline } = await interleave<Round>({
    name: 'memory',
    rounds,
    subject: async () => measure(bed, await startFanfare(bed)),
    baseline: async () => measure(bed, await startBare(bed)),
  });
  const kib = (measured: readonly Round[]) => measured.map(({ perSocket }) => perSocket / 1_024);
  const limitedBy = `growth from ${FEW} to ${MANY} sockets with one subscription each, after a garbage collection`;
  return [{ name: 'memory: a socket', unit: 'KiB', subject: kib(subject), baseline: kib(baseline), limitedBy }];
}

async function measure(bed: Bed, sender: Sender): Promise<Round> {
  const crowd = bed.startWorker<Crowd>(new URL('support/crowd-program.ts', import.meta.url));
  const few = await measureAt(FEW, FEW, { crowd, sender });
  const many = await measureAt(MANY, MANY - FEW, { crowd, sender });
  await crowd.stop();
  await sender.stop();
  return { perSocket: (many - few) / (MANY - FEW) };
}

async function measureAt(
  sockets: number,
  more: number,
  { crowd, sender }: { readonly crowd: Audience['crowd']; readonly sender: Sender },
): Promise<number> {
  await crowd.call('open', { url: sender.url, key: sender.key, sockets: more });
  await untilAllHear({ crowd, sockets, senderPid: sender.pid, send: sender.send });
  return settledMemory(sender.pid);
}

async function startFanfare(bed: Bed): Promise<Sender> {
  const databaseUrl = await bed.createDatabase();
  const key = makeKey();
  const shared = { ...postgresEnv(databaseUrl), REDIS_URL: bed.redisUrl, ADMIN_API_KEY: key };
  const env = { ...shared, ROLES: 'api', NODE_OPTIONS: `--import=${GARBAGE_COLLECTOR}` };
  const api = await startServer(bed, { name: 'api', env });
  const relay = await startServer(bed, { name: 'relay', env: { ...shared, ROLES: 'relay' } });
  return {
    pid: api.pid,
    url: api.wsUrl,
    key,
    send: (events) => emitStockChanges(databaseUrl, events),
    stop: async () => void (await Promise.all([api.stop(), relay.stop()])),
  };
}

async function startBare(bed: Bed): Promise<Sender> {
  const server = bed.startWorker<Broadcast>(new URL('baselines/broadcast.ts', import.meta.url));
  return {
    pid: server.pid,
    url: await server.call('listen'),
    key: 'none',
    send: (events) => server.call('broadcast', SAMPLE, events),
    stop: () => server.stop(),
  };
}

const SAMPLE = JSON.stringify({ id: 'socket-00000', type: 'next', payload: { data: { events: { position: '1' } } } });

/** Resident bytes after two garbage collections: between them what has come of the first is given back. */
async function settledMemory(pid: number): Promise<number> {
  for (let time = 0; time < 2; time++) {
    const before = titleOf(pid);
    process.kill(pid, 'SIGUSR2');
    await eventually(() => titleOf(pid) !== before, {
      deadlineMs: 60_000,
      everyMs: 200,
      describe: 'the garbage to go',
    });
    await setTimeout(SETTLE_MS);
  }
  return residentBytes(pid);
}

function titleOf(pid: number): string {
  return readFileSync(`/proc/${pid}/comm`, 'utf8');
}

function residentBytes(pid: number): number {
  return 1_024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

function requireOpenFiles(needed: number): void {
  const allowed = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  if (allowed !== undefined && Number(allowed) < needed)
    throw new Error(`expected ${needed} open files to be allowed, found ${allowed}; raise it: ulimit -n ${needed}`);
}
