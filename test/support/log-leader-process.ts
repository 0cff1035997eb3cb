import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { inject } from 'vitest';
import type { Observation } from '../../src/runtime/observe.ts';
import { eventually } from './eventually.ts';
import type { LeaderPlan } from './log-sequencer.ts';

/** A running `log-leader.ts`. */
export interface LeaderProcess {
  /** What it has reported so far. */
  readonly observed: readonly Observation[];
  /** Resolves when it has frozen itself, or `freeze` has. */
  untilFrozen(): Promise<void>;
  freeze(): Promise<void>;
  thaw(): void;
  kill(): Promise<void>;
  /** Resolves with the signal that ended it, null if it ended by itself. */
  readonly ended: Promise<NodeJS.Signals | null>;
  /** Ends it in order. */
  stop(): Promise<void>;
}

const PROGRAM = fileURLToPath(new URL('./log-leader.ts', import.meta.url));

/** Starts it in the run's folder, so that it can't outlive the run. */
export function spawnLeader(plan: LeaderPlan): LeaderProcess {
  const child = spawn(process.execPath, [PROGRAM, JSON.stringify(plan)], {
    cwd: inject('run').scratchDir,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const observed: Observation[] = [];
  const ended = once(child, 'close').then(([, signal]: unknown[]) => signal as NodeJS.Signals | null);
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = `${rest}${text}`.split('\n');
    rest = lines.pop() ?? '';
    observed.push(...lines.map((line): Observation => JSON.parse(line)));
  });
  const untilFrozen = async () => {
    await eventually(() => isFrozen(child), { describe: 'the leader to freeze' });
  };
  return {
    observed,
    ended,
    untilFrozen,
    async freeze() {
      child.kill('SIGSTOP');
      await untilFrozen();
    },
    thaw: () => child.kill('SIGCONT'),
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
    async stop() {
      child.kill('SIGCONT');
      child.stdin.end();
      await ended;
    },
  };
}

function isFrozen({ pid, exitCode, signalCode }: ChildProcess): boolean {
  if (exitCode !== null || signalCode !== null) throw new Error(`it ended: ${exitCode ?? signalCode}`);
  return /^\d+ \(.*\) T/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
}
