import { readFileSync } from 'node:fs';
import { type ParseArgsConfig, parseArgs } from 'node:util';

/** The command line was not understood: exit code 2. */
export class UsageError extends Error {}

/** What was asked for can't be done: one message, exit code 1. */
export class ToolError extends Error {}

/** The environment's settings. */
export type Env = Readonly<Record<string, string | undefined>>;

export interface CommandLine {
  readonly positionals: readonly string[];
  /** By their long names, without the dashes. */
  readonly options: ReadonlyMap<string, string>;
  readonly wantsHelp: boolean;
}

/** The server to work on. */
export interface Server {
  /** The GraphQL endpoint, http or https. */
  readonly url: string;
  readonly key: string;
}

/**
 * Reads options as `--name value` or `--name=value`, anywhere; all take a value but `--help`.
 * @throws UsageError for an unknown option, naming the near one, for one that is given twice, and for one without its value
 */
export async function readCommandLine(args: readonly string[], names: readonly string[]): Promise<CommandLine> {
  const known: NonNullable<ParseArgsConfig['options']> = { help: { type: 'boolean', short: 'h' } };
  for (const name of names) known[name] = { type: 'string' };
  const { tokens } = parseArgs({
    args: [...args],
    options: known,
    allowPositionals: true,
    strict: false,
    tokens: true,
  });
  const options = new Map<string, string>();
  for (const token of tokens) {
    if (token.kind !== 'option' || token.name === 'help') continue;
    if (!names.includes(token.name)) {
      throw new UsageError(`there is no option ${token.rawName}${await nearOption(token.name, names)}`);
    }
    if (token.value === undefined || token.value === '') throw new UsageError(`${token.rawName} needs a value`);
    if (options.has(token.name)) throw new UsageError(`${token.rawName} is given twice`);
    options.set(token.name, token.value);
  }
  return {
    positionals: tokens.flatMap((token) => (token.kind === 'positional' ? [token.value] : [])),
    options,
    wantsHelp: tokens.some((token) => token.kind === 'option' && token.name === 'help'),
  };
}

/**
 * Where the server is and which key to show it: `--url` and `--key`, else what a server started from the same settings has.
 * @throws UsageError for an address that is none; ToolError if there is no key
 */
export function readServer(options: ReadonlyMap<string, string>, env: Env): Server {
  const given = options.get('url');
  return {
    url: readUrl(given ?? `http://127.0.0.1:${env.PORT?.trim() || '4000'}`, given === undefined ? 'PORT' : '--url'),
    key: options.get('key') ?? readKey(env),
  };
}

/** @throws UsageError unless it is a whole number within the bounds; left out, it is the default */
export function readWholeNumber<Default>(
  options: ReadonlyMap<string, string>,
  { name, min, max, otherwise }: { name: string; min: number; max: number; otherwise: Default },
): number | Default {
  const text = options.get(name);
  if (text === undefined) return otherwise;
  if (/^\d{1,15}$/.test(text) && Number(text) >= min && Number(text) <= max) return Number(text);
  throw new UsageError(`--${name}: expected a whole number from ${min} to ${max}, found "${text}"`);
}

/** Loads the server's modules, so only on the way to an error. */
async function nearOption(name: string, names: readonly string[]): Promise<string> {
  const { nearest } = await import('#engine');
  const options = [...names, 'help'].map((each) => `--${each}`);
  const near = nearest(`--${name}`, options);
  return near === undefined ? '' : `; did you mean "${near}"?`;
}

function readUrl(text: string, source: string): string {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new UsageError(`${source}: expected http://host:port or https://…, found "${text}"`);
  }
  if (url.pathname === '/') url.pathname = '/graphql';
  return url.href;
}

function readKey(env: Env): string {
  const given = env.ADMIN_API_KEY?.trim();
  if (given) return given;
  const file = `${env.DATA_DIR?.trim() || '.fanfare'}/admin-key`;
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    throw new ToolError(`there is no API key: give --key, set ADMIN_API_KEY, or run where ${file} is`);
  }
}
