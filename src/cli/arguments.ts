import { type ParseArgsConfig, parseArgs } from 'node:util';

/** The command line was not understood: exit code 2. */
export class UsageError extends Error {}

/** What was asked for can't be done: one line, exit code 1. */
export class CliError extends Error {}

/** Options of one command, by their long names. */
export interface Arguments {
  readonly positionals: readonly string[];
  readonly options: ReadonlyMap<string, string>;
  /** Those that take no value and were given. */
  readonly flags: ReadonlySet<string>;
  readonly wantsHelp: boolean;
}

/**
 * Reads what follows a command's name: options as `--name value` or `--name=value`, anywhere.
 * @param names of options that take a value
 * @param flagNames of those that take none; `help` is one anyway
 * @throws UsageError for an unknown option, naming the near one, and for one without its value
 */
export async function readArguments(
  args: readonly string[],
  names: readonly string[],
  flagNames: readonly string[] = [],
): Promise<Arguments> {
  const options: NonNullable<ParseArgsConfig['options']> = { help: { type: 'boolean', short: 'h' } };
  for (const name of names) options[name] = { type: 'string' };
  for (const name of flagNames) options[name] = { type: 'boolean' };
  const { tokens } = parseArgs({ args: [...args], options, allowPositionals: true, strict: false, tokens: true });
  const read = new Map<string, string>();
  const flags = new Set<string>();
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option' || token.name === 'help') continue;
    if (flagNames.includes(token.name)) {
      flags.add(token.name);
      continue;
    }
    if (!names.includes(token.name)) {
      throw new UsageError(
        `there is no option ${token.rawName}${await nearWord(
          `--${token.name}`,
          [...names, ...flagNames].map((name) => `--${name}`),
        )}`,
      );
    }
    if (token.value === undefined || token.value === '') throw new UsageError(`${token.rawName} needs a value`);
    read.set(token.name, token.value);
  }
  return {
    positionals,
    options: read,
    flags,
    wantsHelp: tokens.some((token) => token.kind === 'option' && token.name === 'help'),
  };
}

/** `; did you mean "watch"?`, or nothing. Loads the server's modules, so only on the way to an error. */
export async function nearWord(word: string, candidates: Iterable<string>): Promise<string> {
  const { suggest } = await import('../main/offline.ts');
  return suggest(word, candidates);
}
