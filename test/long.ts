import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

// `npm run test:long [-- [--data FOLDER] [vitest's arguments]]`: all tests, the long ones too. FOLDER holds online-retail.csv,
// on which the replay is tested; without it, on a file of that size that is made up.

const VITEST = fileURLToPath(new URL('../node_modules/vitest/vitest.mjs', import.meta.url));
const args = process.argv.slice(2);

/** Takes `--data FOLDER` or `--data=FOLDER` out; everything else is vitest's. */
function readDataFolder(): { readonly folder: string | undefined; readonly others: readonly string[] } {
  const { tokens } = parseArgs({ args, options: { data: { type: 'string' } }, strict: false, tokens: true });
  const found = tokens.filter((token) => token.kind === 'option').find(({ name }) => name === 'data');
  if (found === undefined) return { folder: undefined, others: args };
  const others = args.toSpliced(found.index, found.inlineValue ? 1 : 2);
  if (found.value === undefined) throw new Error('--data needs a folder: --data FOLDER');
  const folder = resolve(found.value);
  if (!existsSync(join(folder, 'online-retail.csv'))) throw new Error(`expected online-retail.csv in ${folder}`);
  return { folder, others };
}

function run(folder: string | undefined, others: readonly string[]): void {
  const data = folder === undefined ? {} : { FANFARE_DATA: folder };
  const child = spawn(process.execPath, [VITEST, 'run', ...others], {
    stdio: 'inherit',
    env: { ...process.env, FANFARE_LONG: '1', ...data },
  });
  // a terminal's Ctrl-C reaches both: vitest ends in order, and this waits for it
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  child.on('exit', (code) => {
    process.exitCode = code ?? 1;
  });
}

try {
  const { folder, others } = readDataFolder();
  run(folder, others);
} catch (error) {
  process.stderr.write(`test:long: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}
