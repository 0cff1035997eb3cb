import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

// `npm run test:long [-- [--data FOLDER] [--attacks FOLDER] [vitest's arguments]]`: all tests, the long ones too. The folder of
// `--data` holds online-retail.csv, on which the replay is tested; without it, on a file of that size that is made up. The folder
// of `--attacks` holds lists of callback URLs, on which the guard is tested beside the list of our own.

const VITEST = fileURLToPath(new URL('../node_modules/vitest/vitest.mjs', import.meta.url));

/** Folders that may be given: a file that each must hold, and how tests learn of it. */
const FOLDERS = {
  data: { holds: 'online-retail.csv', variable: 'FANFARE_DATA' },
  attacks: { holds: 'callback-urls-refuse.json', variable: 'FANFARE_ATTACKS' },
} as const;

interface Arguments {
  readonly env: Readonly<Record<string, string>>;
  readonly others: readonly string[];
}

/** Takes `--data FOLDER` or `--data=FOLDER` out; everything that is no such folder is vitest's. */
function takeFolder(name: keyof typeof FOLDERS, { env, others: args }: Arguments): Arguments {
  const { holds, variable } = FOLDERS[name];
  const { tokens } = parseArgs({
    args: [...args],
    options: { [name]: { type: 'string' } },
    strict: false,
    tokens: true,
  });
  const found = tokens.filter((token) => token.kind === 'option').find((token) => token.name === name);
  if (found === undefined) return { env, others: args };
  const others = args.toSpliced(found.index, found.inlineValue ? 1 : 2);
  if (found.value === undefined) throw new Error(`--${name} needs a folder: --${name} FOLDER`);
  const folder = resolve(found.value);
  if (!existsSync(join(folder, holds))) throw new Error(`expected ${holds} in ${folder}`);
  return { env: { ...env, [variable]: folder }, others };
}

function run({ env, others }: Arguments): void {
  const child = spawn(process.execPath, [VITEST, 'run', ...others], {
    stdio: 'inherit',
    env: { ...process.env, FANFARE_LONG: '1', ...env },
  });
  // a terminal's Ctrl-C reaches both: vitest ends in order, and this waits for it
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  child.on('exit', (code) => {
    process.exitCode = code ?? 1;
  });
}

try {
  run(takeFolder('attacks', takeFolder('data', { env: {}, others: process.argv.slice(2) })));
} catch (error) {
  process.stderr.write(`test:long: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}
