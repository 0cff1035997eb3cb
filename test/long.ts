import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

// `npm run test:long [-- [--data FOLDER] [--attacks FOLDER] [--fanout N] [vitest's arguments]]`: all tests, the long ones too. FOLDER holds
// online-retail.csv, on which the replay is tested; without it, on a file of that size that is made up. The folder
// of `--attacks` holds lists of attacks: callback URLs, on which the guard is tested, and those on webhooks, each of which must have its test. N, 1 to 50, is how many webhooks ask for each event while workers are killed.

const VITEST = fileURLToPath(new URL('../node_modules/vitest/vitest.mjs', import.meta.url));
const args = process.argv.slice(2);

/** What is ours, by the name of its option: the variable that the tests read, and what is wrong with a value. */
const OPTIONS: Readonly<Record<string, { readonly variable: string; fault(value: string): string | undefined }>> = {
  data: {
    variable: 'FANFARE_DATA',
    fault: (folder) =>
      existsSync(join(folder, 'online-retail.csv')) ? undefined : `expected online-retail.csv in ${folder}`,
  },
  attacks: {
    variable: 'FANFARE_ATTACKS',
    fault: (folder) =>
      existsSync(join(folder, 'graphql-attacks.json')) ? undefined : `expected graphql-attacks.json in ${folder}`,
  },
  fanout: {
    variable: 'FANFARE_FANOUT',
    fault: (count) => (/^([1-9]|[1-4]\d|50)$/.test(count) ? undefined : `expected 1 to 50, found ${count}`),
  },
};

/** Takes each `--option VALUE` or `--option=VALUE` of ours out; everything else is vitest's. */
function readOptions(): { readonly env: Readonly<Record<string, string>>; readonly others: readonly string[] } {
  const env: Record<string, string> = {};
  const options = Object.fromEntries(Object.keys(OPTIONS).map((name) => [name, { type: 'string' as const }]));
  const { tokens } = parseArgs({ args, options, strict: false, tokens: true });
  const ours = tokens.filter((token) => token.kind === 'option' && token.name in OPTIONS);
  const taken = new Set<number>();
  for (const token of ours) {
    if (token.kind !== 'option') continue;
    const option = OPTIONS[token.name];
    if (option === undefined) continue;
    if (token.value === undefined) throw new Error(`--${token.name} needs a value`);
    const value = token.name === 'fanout' ? token.value : resolve(token.value);
    const fault = option.fault(value);
    if (fault !== undefined) throw new Error(fault);
    env[option.variable] = value;
    taken.add(token.index);
    if (!token.inlineValue) taken.add(token.index + 1);
  }
  return { env, others: args.filter((_, at) => !taken.has(at)) };
}

function run(env: Readonly<Record<string, string>>, others: readonly string[]): void {
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
  const { env, others } = readOptions();
  run(env, others);
} catch (error) {
  process.stderr.write(`test:long: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}
