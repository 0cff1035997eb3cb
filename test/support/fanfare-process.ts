import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inject } from 'vitest';
import { childEnv } from './child-env.ts';
import { eventually } from './eventually.ts';

/** A server in a process of its own, started as `npm start` does. */
export interface FanfareProcess {
  readonly url: string;
  readonly wsUrl: string;
  readonly child: ChildProcess;
  /** What it has printed so far. */
  output(): string;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** SIGTERM; resolves with its exit code. */
  stop(): Promise<number | null>;
}

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const READY_MS = 60_000;

/**
 * Starts a server and resolves when it has printed its address.
 * @throws Error with its output if it ends before
 */
export async function startFanfare(env: Readonly<Record<string, string>>): Promise<FanfareProcess> {
  const { child, output, exited } = await spawnFanfare(env);
  const url = await Promise.race([
    address(output),
    exited.then((code) => Promise.reject(new Error(`the server ended with ${code}: ${output()}`))),
  ]);
  return {
    url: `${url}/graphql`,
    wsUrl: `${url.replace('http', 'ws')}/graphql`,
    child,
    output,
    kill: async () => {
      child.kill('SIGKILL');
      await exited;
    },
    stop: () => {
      child.kill('SIGTERM');
      return exited;
    },
  };
}

/** Starts a server that is expected to refuse; resolves with its exit code and output. */
export async function startRefused(
  env: Readonly<Record<string, string>>,
): Promise<{ code: number | null; output: string }> {
  const { output, exited } = await spawnFanfare(env);
  const code = await exited;
  return { code, output: output() };
}

/** Starts one without waiting for it. It works in a folder of the run, so that it can't outlive it. */
export async function spawnFanfare(env: Readonly<Record<string, string>>) {
  const cwd = await mkdtemp(join(inject('run').scratchDir, 'process-'));
  const child = spawn(process.execPath, [MAIN], {
    cwd,
    env: { ...childEnv(), PORT: '0', LOG_LEVEL: 'error', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const chunks: string[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => chunks.push(String(chunk)));
  const exited = once(child, 'close').then(async ([code]) => {
    await rm(cwd, { recursive: true, force: true });
    return code as number | null; // what 'close' gives
  });
  return { child, output: () => chunks.join(''), exited };
}

async function address(output: () => string): Promise<string> {
  const found = await eventually(
    () => {
      const at = /on (http:\/\/[\w.[\]:]+)/.exec(output())?.[1];
      if (at === undefined) throw new Error(`no address yet: ${output()}`);
      return at;
    },
    { deadlineMs: READY_MS },
  );
  return found;
}
