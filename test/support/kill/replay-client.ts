import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { inject } from 'vitest';
import { childEnv } from '../child-env.ts';
import type { Acknowledged } from './compare.ts';

/** The replay tool at work, in a process of its own. */
export interface ReplayClient {
  /** What it was acknowledged so far, as it wrote it down. */
  ledger(): readonly Acknowledged[];
  /** Waits until so many changes are acknowledged. @returns false if it ended before */
  reaches(count: number): Promise<boolean>;
  /** Freezes it: its calls under way are answered, it makes no new ones. */
  hold(): void;
  release(): void;
  /** @returns its exit code */
  readonly ended: Promise<number | null>;
  output(): string;
  kill(): Promise<void>;
}

export interface ReplayOptions {
  readonly path: string;
  readonly url: string;
  readonly key: string;
  readonly concurrency: number;
  /** Only so many invoices, the first in order of time. @default all */
  readonly invoices?: number | undefined;
}

const REPLAY = fileURLToPath(new URL('../../../schema/tools/replay.ts', import.meta.url));

export function startReplay({ path, url, key, concurrency, invoices }: ReplayOptions): ReplayClient {
  const cwd = mkdtempSync(join(inject('run').scratchDir, 'replay-'));
  const ledgerPath = join(cwd, 'ledger.jsonl');
  const only = invoices === undefined ? [] : ['--invoices', String(invoices)];
  const options = ['--url', url, '--key', key, '--concurrency', String(concurrency), '--ledger', ledgerPath, ...only];
  const child = spawn(process.execPath, [REPLAY, path, ...options], {
    cwd,
    env: childEnv(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const chunks: string[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => chunks.push(String(chunk)));
  let hasEnded = false;
  const ended = once(child, 'close').then(([code]) => {
    hasEnded = true;
    return code as number | null; // what 'close' gives
  });
  const ledger = followLedger(ledgerPath);
  return {
    ledger,
    ended,
    output: () => chunks.join(''),
    async reaches(count) {
      // its own patience, 120 s without progress, is the deadline
      while (ledger().length < count) {
        if (hasEnded) return ledger().length >= count;
        await wait(5);
      }
      return true;
    },
    hold: () => void child.kill('SIGSTOP'),
    release: () => void child.kill('SIGCONT'),
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** Reads what was added since the last call; a line that is not whole yet waits for its rest. */
function followLedger(path: string): () => readonly Acknowledged[] {
  const entries: Acknowledged[] = [];
  const chunk = Buffer.alloc(65_536);
  let offset = 0;
  let rest = '';
  return () => {
    const file = openIfThere(path);
    if (file === undefined) return entries;
    for (let bytes = -1; bytes !== 0; offset += bytes) {
      bytes = readSync(file, chunk, 0, chunk.length, offset);
      const lines = (rest + chunk.toString('latin1', 0, bytes)).split('\n');
      rest = lines.pop() ?? '';
      // the tool's contract: {"key", "field", "id", "cursor"}, ASCII
      entries.push(...lines.map((line) => JSON.parse(line) as Acknowledged));
    }
    closeSync(file);
    return entries;
  };
}

function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch {
    return undefined; // it writes the first line later
  }
}
