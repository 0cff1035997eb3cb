import { readFileSync } from 'node:fs';
import { CliError, nearWord, readArguments, UsageError } from './arguments.ts';
import { askServer } from './ask.ts';
import { describeChecked, wouldBreak } from './check-documents.ts';
import { listen } from './listen.ts';
import { watchEvents } from './watch.ts';

/** The environment's settings. */
export type Env = Readonly<Record<string, string | undefined>>;

/** Resolves with false where it failed and has said so itself. */
type Command = (args: readonly string[], env: Env) => Promise<unknown>;

const HELP = `fanfare watch [FIELD]     print events as they happen, one JSON line each; Ctrl-C ends it
    FIELD                 a subscription field such as orderPlaced  (default: events)
    --filter TYPES        only these types of events: ORDER_PLACED,ORDER_PAID
    --query FILE          a document of your own; it declares $after: String
    --after CURSOR        go on behind this cursor                  (default: from now on)
fanfare listen [FIELD]    forward events as signed callbacks to a server of your own, and print each with its answer
    --forward-to URL      your server: http://localhost:3000/hook
    --secret whsec_...    signs them                                (default: WEBHOOK_SECRET, else a new one, printed)
    --until POSITION      replay the past up to there, then end
    --filter, --query and --after as for watch
fanfare ask DOCUMENT      send a query or mutation and print the answer; - reads it from standard input
    --variables JSON      the document's variables
    --idempotency-key K   a mutation that is sent again with it is made once
  both take
    --url URL             the server      (default: http://127.0.0.1:PORT, 4000 without PORT)
    --key KEY             an API key      (default: ADMIN_API_KEY, else the file DATA_DIR/admin-key)
fanfare key new           print a new key for ADMIN_API_KEY
fanfare secrets-key       print a new key for SECRETS_KEY
fanfare epoch new         after restoring a backup, with all servers stopped: make old cursors fail (DATABASE_URL or DATA_DIR)
fanfare check-documents   before a deploy: which registered documents this program's schema breaks or finds deprecated (DATABASE_URL
                          or DATA_DIR); exits with 1 if it breaks one that is sent to now
    --json                print what was found as JSON
fanfare version           print the version
fanfare help              print this
`;

const COMMANDS: Readonly<Record<string, Command>> = {
  watch: watchCommand,
  listen: listenCommand,
  ask: askCommand,
  key: (args) => makeNew(args, { of: 'key', make: async () => (await offline()).newAdminKey() }),
  'secrets-key': async (args) => {
    if (!(await isHelp(args, 0))) print((await offline()).newSecretsKey());
  },
  epoch: (args, env) => makeNew(args, { of: 'epoch', make: () => replaceEpoch(env) }),
  'check-documents': checkCommand,
  version: async (args) => {
    if (!(await isHelp(args, 0))) print(readVersion());
  },
  help: async () => print(HELP.trimEnd()),
};

const ALIASES: Readonly<Record<string, string>> = {
  '--help': 'help',
  '-h': 'help',
  '--version': 'version',
  '-v': 'version',
};

/**
 * Runs one command of `fanfare`. Results go to standard output, anything else to standard error.
 * @param argv without the program's name
 * @returns the exit code: 0, 1 if it failed, 2 if the command line was not understood; never rejects
 */
export async function runCli(argv: readonly string[], env: Env): Promise<number> {
  const [given = 'help', ...args] = argv;
  const name = ALIASES[given] ?? given;
  try {
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
    if (command === undefined) {
      throw new UsageError(`there is no command "${name}"${await nearWord(name, Object.keys(COMMANDS))}`);
    }
    return (await command(args, env)) === false ? 1 : 0;
  } catch (error) {
    const isUsage = error instanceof UsageError;
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(`fanfare: ${message}${isUsage ? ' (see: fanfare help)' : ''}\n`);
    return isUsage ? 2 : 1;
  }
}

async function watchCommand(args: readonly string[], env: Env): Promise<void> {
  const { positionals, options, wantsHelp } = await readArguments(args, WATCH_OPTIONS);
  if (wantsHelp) return print(HELP.trimEnd());
  await watchEvents(readWatch('watch', { positionals, options, env }));
}

const WATCH_OPTIONS = ['url', 'key', 'after', 'filter', 'query'];

interface Given {
  readonly positionals: readonly string[];
  readonly options: ReadonlyMap<string, string>;
  readonly env: Env;
}

function readWatch(command: string, { positionals, options, env }: Given) {
  const [field, extra] = positionals;
  if (extra !== undefined) throw new UsageError(`${command} takes one field, found "${extra}" too`);
  const chosen = [field, options.get('filter'), options.get('query')].filter((each) => each !== undefined);
  if (chosen.length > 1) throw new UsageError(`${command} takes one of FIELD, --filter and --query`);
  return {
    field,
    filter: options.get('filter'),
    queryFile: options.get('query'),
    after: options.get('after'),
    ...readServer(options, env),
  };
}

async function listenCommand(args: readonly string[], env: Env): Promise<boolean> {
  const names = [...WATCH_OPTIONS, 'forward-to', 'secret', 'until'];
  const { positionals, options, wantsHelp } = await readArguments(args, names);
  if (wantsHelp) {
    print(HELP.trimEnd());
    return true;
  }
  return listen({
    ...readWatch('listen', { positionals, options, env }),
    forwardTo: readForwardTo(options.get('forward-to')),
    secret: options.get('secret') ?? (env.WEBHOOK_SECRET?.trim() || undefined),
    until: readUntil(options),
  });
}

function readForwardTo(text: string | undefined): string {
  if (text !== undefined && URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text;
  const found = text === undefined ? '' : `, found "${text}"`;
  throw new UsageError(`listen needs --forward-to http://localhost:3000/hook${found}`);
}

/** The past has an end only where it has a beginning. */
function readUntil(options: ReadonlyMap<string, string>): number | undefined {
  const text = options.get('until');
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,14}$/.test(text)) throw new UsageError(`--until: expected a position such as 42, found "${text}"`);
  if (!options.has('after')) throw new UsageError('--until needs --after, where the range begins');
  return Number(text);
}

async function askCommand(args: readonly string[], env: Env): Promise<boolean> {
  const { positionals, options, wantsHelp } = await readArguments(args, ['url', 'key', 'variables', 'idempotency-key']);
  if (wantsHelp) {
    print(HELP.trimEnd());
    return true;
  }
  const [document, extra] = positionals;
  if (document === undefined || extra !== undefined) {
    throw new UsageError(`ask takes one document in quotes, found ${positionals.length} words`);
  }
  return askServer({
    document,
    variables: options.get('variables'),
    idempotencyKey: options.get('idempotency-key'),
    ...readServer(options, env),
  });
}

function readServer(options: ReadonlyMap<string, string>, env: Env) {
  return {
    url: readUrl(options.get('url') ?? `http://127.0.0.1:${env.PORT?.trim() || '4000'}`),
    ...readKey(options.get('key'), env),
  };
}

function readUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^(http|ws)s?:$/.test(url.protocol)) {
    throw new UsageError(`--url: expected http://host:port or https://…, found "${text}"`);
  }
  url.protocol = url.protocol.replace('ws', 'http');
  if (url.pathname === '/') url.pathname = '/graphql';
  return url.href;
}

function readKey(option: string | undefined, env: Env): { readonly key: string; readonly keyFrom: string } {
  if (option !== undefined) return { key: option, keyFrom: '--key' };
  const given = env.ADMIN_API_KEY?.trim();
  if (given) return { key: given, keyFrom: 'ADMIN_API_KEY' };
  const file = `${env.DATA_DIR?.trim() || '.fanfare'}/admin-key`;
  try {
    return { key: readFileSync(file, 'utf8').trim(), keyFrom: file };
  } catch {
    throw new CliError(`there is no API key: give --key, set ADMIN_API_KEY, or run where ${file} is`);
  }
}

async function makeNew(
  args: readonly string[],
  { of, make }: { of: string; make: () => Promise<string> },
): Promise<void> {
  if (await isHelp(args, 1)) return;
  const [word] = args;
  if (word !== 'new')
    throw new UsageError(`expected "fanfare ${of} new"${word === undefined ? '' : `, found "${word}"`}`);
  print(await make());
}

/** Prints the help if it is asked for. @throws UsageError for more words than there may be, or any option */
async function isHelp(args: readonly string[], maxWords: number): Promise<boolean> {
  const { positionals, wantsHelp } = await readArguments(args, []);
  if (wantsHelp) print(HELP.trimEnd());
  const extra = positionals[maxWords];
  if (!wantsHelp && extra !== undefined) throw new UsageError(`there is nothing to do with "${extra}"`);
  return wantsHelp;
}

async function replaceEpoch(env: Env): Promise<string> {
  const { replaceEpoch: replace } = await offline();
  return replace(whereabouts(env));
}

async function checkCommand(args: readonly string[], env: Env): Promise<boolean> {
  const { positionals, flags, wantsHelp } = await readArguments(args, [], ['json']);
  if (wantsHelp) {
    print(HELP.trimEnd());
    return true;
  }
  if (positionals.length > 0) throw new UsageError(`there is nothing to do with "${positionals[0]}"`);
  const { checkRegistered } = await import('../main/check-documents.ts');
  const checked = await checkRegistered(whereabouts(env));
  print(flags.has('json') ? JSON.stringify(checked) : describeChecked(checked));
  return !wouldBreak(checked);
}

function whereabouts(env: Env) {
  return { databaseUrl: env.DATABASE_URL?.trim() || undefined, dataDir: env.DATA_DIR?.trim() || '.fanfare' };
}

/** Loaded when needed: with it come the database drivers, and half a second. */
function offline() {
  return import('../main/offline.ts');
}

function readVersion(): string {
  // our own manifest
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return manifest.version;
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
