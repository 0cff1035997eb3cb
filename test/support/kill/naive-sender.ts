import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { inject } from 'vitest';
import { serve } from './callback-receiver.ts';

/** A sender that notes events as sent before it has sent them, and its receiver: the negative control for callbacks. */
export interface NaiveSender {
  readonly ids: ReadonlySet<string>;
  /** Resolves in the middle of a page, with a request that is not answered yet: or in 1 s, if it has nothing to send. */
  isInPage(): Promise<void>;
  /** `kill -9`, and the next start at once, from its saved cursor. */
  kill(): Promise<void>;
  close(): Promise<void>;
}

export interface NaiveSenderOptions {
  readonly url: string;
  readonly key: string;
  readonly after: string;
}

const PROGRAM = fileURLToPath(new URL('./naive-sender-process.ts', import.meta.url));
const IDLE_MS = 1_000;

export async function startNaiveSender({ url, key, after }: NaiveSenderOptions): Promise<NaiveSender> {
  const cwd = mkdtempSync(join(inject('run').scratchDir, 'sender-'));
  const ids = new Set<string>();
  /** Told of the next request that leaves events of its page unsent, which then is slow to be answered. */
  let caught: (() => void) | undefined;
  const receiver = await serve(async (headers) => {
    ids.add(String(headers['event-id']));
    if (caught === undefined || headers['left-in-page'] === '0') return;
    caught();
    caught = undefined;
    await wait(IDLE_MS);
  });
  const start = () =>
    spawn(process.execPath, [PROGRAM, url, key, receiver.url, join(cwd, 'cursor'), after], { cwd, stdio: 'ignore' });
  let child = start();
  return {
    ids,
    isInPage: () => Promise.race([new Promise<void>((resolve) => (caught = resolve)), wait(IDLE_MS)]),
    async kill() {
      await end(child);
      child = start();
    },
    async close() {
      await end(child);
      await receiver.close();
    },
  };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
