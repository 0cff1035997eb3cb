import { readdirSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';

/** Processes by the name that the report gives them. */
export type Parts = Readonly<Record<string, () => readonly number[]>>;

/** What the parts have used between two moments. */
export interface Usage {
  /** CPU time by part, in seconds. */
  readonly seconds: Readonly<Record<string, number>>;
  /** Of all cores, 0 to 1, programs that are no part included. */
  readonly machine: number;
}

export interface UsageMeter {
  stop(): Usage;
}

/** Starts to measure what processes use of the processor. Linux only. */
export function startUsageMeter(parts: Parts): UsageMeter {
  const startedAt = performance.now();
  const before = readParts(parts);
  const busyBefore = readBusySeconds();
  return {
    stop() {
      const elapsed = (performance.now() - startedAt) / 1_000;
      const after = readParts(parts);
      const seconds = Object.keys(parts).map((name) => [name, usedBetween(before[name], after[name])]);
      return {
        seconds: Object.fromEntries(seconds),
        machine: (readBusySeconds() - busyBefore) / elapsed / cpus().length,
      };
    },
  };
}

/** A round's usage and how many operations it has made. */
export interface Used {
  readonly usage: Usage;
  readonly count: number;
}

/**
 * What one operation costs each part, dearest first, as one short phrase. Unlike a rate it says the same while other
 * programs take their share of the machine.
 */
export function describeCost(rounds: readonly Used[]): string {
  const count = rounds.reduce((sum, each) => sum + each.count, 0);
  const names = Object.keys(rounds[0]?.usage.seconds ?? {});
  const costs = names.map((name) => {
    const seconds = rounds.reduce((sum, { usage }) => sum + (usage.seconds[name] ?? 0), 0);
    return { name, ms: (seconds * 1_000) / count };
  });
  const total = costs.reduce((sum, { ms }) => sum + ms, 0);
  const shown = costs.filter(({ ms }) => ms >= total / 20).sort((a, b) => b.ms - a.ms);
  const machine = rounds.reduce((sum, { usage }) => sum + usage.machine, 0) / rounds.length;
  return `CPU of each: ${shown.map(({ name, ms }) => `${name} ${toDuration(ms)}`).join(', ')}; machine ${Math.round(machine * 100)} % busy`;
}

function toDuration(ms: number): string {
  return ms >= 0.1 ? `${ms.toPrecision(2)} ms` : `${(ms * 1_000).toPrecision(2)} µs`;
}

/** CPU time that each process has used so far, in seconds. */
type Seconds = ReadonlyMap<number, number>;

function readParts(parts: Parts): Readonly<Record<string, Seconds>> {
  const read = (pids: readonly number[]) => new Map(pids.map((pid) => [pid, cpuSeconds(pid)]));
  return Object.fromEntries(Object.entries(parts).map(([name, pids]) => [name, read(pids())]));
}

/** A process that has begun in between counts whole; one that has ended, such as that of an idle connection, not at all. */
function usedBetween(before: Seconds = new Map(), after: Seconds = new Map()): number {
  return [...after].reduce((sum, [pid, seconds]) => sum + seconds - (before.get(pid) ?? 0), 0);
}

/** 0 for a process that has ended. */
function cpuSeconds(pid: number): number {
  return threadsOf(pid).reduce((sum, file) => sum + readNanoseconds(file), 0) / 1e9;
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map((thread) => `/proc/${pid}/task/${thread}/schedstat`);
  } catch {
    return []; // it ended meanwhile
  }
}

/** The first number of `schedstat`: nanoseconds on a core. */
function readNanoseconds(file: string): number {
  try {
    return Number(readFileSync(file, 'utf8').split(' ', 1)[0]);
  } catch {
    return 0;
  }
}

/** All but idle time and waiting for the disk, of all cores, in seconds; a tick is a hundredth on any Linux. */
function readBusySeconds(): number {
  const fields = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]?.split(/\s+/).slice(1, 9).map(Number) ?? [];
  const [user = 0, nice = 0, system = 0, , , interrupt = 0, softInterrupt = 0, stolen = 0] = fields;
  return (user + nice + system + interrupt + softInterrupt + stolen) / 100;
}
