import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished } from 'vitest';
import { childEnv } from './child-env.ts';
import { eventually } from './eventually.ts';

/** The command's program. */
export const BIN = fileURLToPath(new URL('../../bin/fanfare.js', import.meta.url));

/** Starts the command `fanfare`; it ends with the test. */
export function startCli(args: readonly string[], env: Readonly<Record<string, string>>) {
  const child = spawn(process.execPath, [BIN, ...args], { env: { ...childEnv(), ...env } });
  const output = collect(child);
  const code = once(child, 'close').then(([ended]) => ended as number | null); // what 'close' gives
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await code;
  });
  const lines = () => output.out().split('\n').slice(0, -1);
  return {
    child,
    code,
    said: output.err,
    printed: output.out,
    untilSays: (words: string) => eventually(() => expect(output.err()).toContain(words)),
    async untilPrints(count: number): Promise<Record<string, unknown>[]> {
      await eventually(() => lines().length >= count);
      return lines().map((line) => JSON.parse(line));
    },
  };
}

function collect(child: ChildProcess) {
  let [out, err] = ['', ''];
  child.stdout?.on('data', (chunk: Buffer) => (out += chunk));
  child.stderr?.on('data', (chunk: Buffer) => (err += chunk));
  return { out: () => out, err: () => err };
}

/** What a command prints that must succeed. */
export async function printed(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<string> {
  const child = spawn(process.execPath, [BIN, ...args], {
    env: { ...childEnv(), ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [out] = await Promise.all([text(child.stdout), once(child, 'close')]);
  expect(child.exitCode).toBe(0);
  return out;
}
