import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { nearest } from '../../src/runtime/spelling.ts';

/** The command line was not understood: exit code 2. */
export class UsageError extends Error {}

export interface BenchArguments {
  /** What to run, in this order. */
  readonly names: readonly string[];
  /** Counted rounds of each side. @default 5 */
  readonly rounds: number;
  /** Prints JSON instead of the table. */
  readonly json: boolean;
  /** The folder for CPU profiles, absolute. */
  readonly profileDir: string | undefined;
  readonly help: boolean;
}

const DEFAULT_ROUNDS = 5;
const MAX_ROUNDS = 100;
const OPTIONS = {
  rounds: { type: 'string' },
  json: { type: 'boolean' },
  profile: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const;

/**
 * Reads `[name…] [--rounds N] [--json] [--profile FOLDER]`; without names all benches are meant.
 * @throws UsageError for a name or an option that does not exist, naming the near one
 */
export function readArguments(args: readonly string[], known: readonly string[]): BenchArguments {
  const { tokens } = parseArgs({
    args: [...args],
    options: OPTIONS,
    allowPositionals: true,
    strict: false,
    tokens: true,
  });
  const names: string[] = [];
  const options = new Map<string, string>();
  for (const token of tokens) {
    if (token.kind === 'positional') names.push(pick(token.value, known, 'bench'));
    if (token.kind !== 'option') continue;
    const name = pick(token.name, Object.keys(OPTIONS), 'option');
    const needsValue = name === 'rounds' || name === 'profile';
    if (needsValue && !token.value) throw new UsageError(`--${name} needs a value`);
    options.set(name, token.value ?? '');
  }
  const profile = options.get('profile');
  return {
    names: names.length === 0 ? known : [...new Set(names)],
    rounds: readRounds(options.get('rounds')),
    json: options.has('json'),
    profileDir: profile === undefined ? undefined : resolve(profile),
    help: options.has('help'),
  };
}

function pick(word: string, known: readonly string[], kind: 'bench' | 'option'): string {
  if (known.includes(word)) return word;
  const near = nearest(word, known);
  const hint = near === undefined ? `there are ${known.join(', ')}` : `did you mean "${near}"?`;
  throw new UsageError(`there is no ${kind} "${word}"; ${hint}`);
}

function readRounds(text: string | undefined): number {
  if (text === undefined) return DEFAULT_ROUNDS;
  const rounds = Number(text);
  if (Number.isInteger(rounds) && rounds >= 1 && rounds <= MAX_ROUNDS) return rounds;
  throw new UsageError(`--rounds: expected a whole number from 1 to ${MAX_ROUNDS}, found "${text}"`);
}
