import { type Env, readCommandLine, readServer, type Server, UsageError } from '../command-line.ts';

export interface TourOptions extends Server {
  /** The host under which the server reaches this machine; undefined: both are on one, and loopback serves. */
  readonly callbackHost: string | undefined;
}

export const TOUR_HELP = `npm run tour [-- options]      places, pays and ships an order, and shows its events as they arrive in four ways

  --url URL             the server     (default: http://127.0.0.1:PORT/graphql, 4000 without PORT)
  --key KEY             an API key     (default: ADMIN_API_KEY, else the file DATA_DIR/admin-key)
  --callback-host HOST  this machine as the server sees it; the receiver then listens on all its addresses
                                       (default: 127.0.0.1, on it alone)
  --help                print this

It leaves a product and an order behind; its webhook is deleted at the end.
Exit code: 0 if all ways brought the same, 1 if not or if it came to nothing, 2 if the command line was not understood.
`;

/**
 * Reads the command line of the tour.
 * @returns undefined if help is asked for
 * @throws UsageError, ToolError
 */
export async function readTourOptions(args: readonly string[], env: Env): Promise<TourOptions | undefined> {
  const line = await readCommandLine(args, ['url', 'key', 'callback-host']);
  if (line.wantsHelp) return undefined;
  const [extra] = line.positionals;
  if (extra !== undefined) throw new UsageError(`there is nothing to do with "${extra}"`);
  return { callbackHost: readHost(line.options.get('callback-host')), ...readServer(line.options, env) };
}

/** A name or an address, in brackets where a URL needs them. */
function readHost(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const host = text.includes(':') && !text.startsWith('[') ? `[${text}]` : text;
  const url = URL.parse(`http://${host}:1`);
  if (url !== null && url.pathname === '/' && url.username === '' && url.host === `${url.hostname}:1`) return host;
  throw new UsageError(`--callback-host: expected a name or an address such as 192.168.1.20, found "${text}"`);
}
