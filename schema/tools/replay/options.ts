import { type Env, readCommandLine, readServer, readWholeNumber, type Server, UsageError } from '../command-line.ts';

export interface ReplayOptions extends Server {
  readonly path: string;
  /** Calls at one time. */
  readonly concurrency: number;
  /** Undefined: all. */
  readonly maxInvoices: number | undefined;
  readonly ledgerPath: string | undefined;
}

export const REPLAY_HELP = `npm run replay -- FILE.csv [options]      places, pays and ships a retailer's invoices, through the GraphQL API

  FILE.csv          with the columns InvoiceNo, StockCode, Description, Quantity, InvoiceDate (12/31/2010 9:05, month
                    first), UnitPrice (in pounds), CustomerID (empty for a guest), Country
  --url URL         the server            (default: http://127.0.0.1:PORT/graphql, 4000 without PORT)
  --key KEY         an API key            (default: ADMIN_API_KEY, else the file DATA_DIR/admin-key)
  --concurrency N   calls at one time, 1 to 64                                          (default: 8)
  --invoices N      only the first N invoices in order of time                        (default: all)
  --ledger FILE     append one line of JSON for each change that the server acknowledged
  --help            print this

Stopped, killed or refused somewhere, the same command goes on: within 24 hours nothing is made twice.
Exit code: 0 if all is done, 1 if something was refused or given up, 2 if the command line was not understood.
`;

/**
 * Reads the command line of the replay.
 * @returns undefined if help is asked for
 * @throws UsageError, ToolError
 */
export async function readReplayOptions(args: readonly string[], env: Env): Promise<ReplayOptions | undefined> {
  const line = await readCommandLine(args, ['url', 'key', 'concurrency', 'invoices', 'ledger']);
  if (line.wantsHelp) return undefined;
  const [path, extra] = line.positionals;
  if (path === undefined) throw new UsageError('expected a file: npm run replay -- FILE.csv');
  if (extra !== undefined) throw new UsageError(`expected one file, found "${extra}" too`);
  return {
    path,
    concurrency: readWholeNumber(line.options, { name: 'concurrency', min: 1, max: 64, otherwise: 8 }),
    maxInvoices: readWholeNumber(line.options, { name: 'invoices', min: 1, max: 1e9, otherwise: undefined }),
    ledgerPath: line.options.get('ledger'),
    ...readServer(line.options, env),
  };
}
