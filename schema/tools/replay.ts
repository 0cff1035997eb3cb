import { type Env, ToolError } from './command-line.ts';
import { createGraphqlClient, ServerLost } from './graphql-client.ts';
import { runProgram, type Stopping, stopOnSignals } from './program.ts';
import { openCsv, readRows } from './replay/csv.ts';
import { NO_LEDGER, openLedger } from './replay/ledger.ts';
import { REPLAY_HELP, type ReplayOptions, readReplayOptions } from './replay/options.ts';
import { countOf, makePlan, type Plan } from './replay/plan.ts';
import { openProgress } from './replay/progress.ts';
import { isComplete, writeReport } from './replay/report.ts';
import { createTally, run, type Tally } from './replay/run.ts';
import { createStore, STORE_SCOPES } from './store.ts';

const STOPPING = '\nstopping: what is in hand is finished first; Ctrl-C again ends it at once\n';

const say = (text: string) => void process.stderr.write(text);

/** Replays a file of invoices into a running server. @returns the exit code */
async function main(args: readonly string[], env: Env): Promise<number> {
  const options = await readReplayOptions(args, env);
  if (options === undefined) {
    process.stdout.write(REPLAY_HELP);
    return 0;
  }
  const plan = await readPlan(options);
  const tally = createTally();
  const stopping = stopOnSignals(process, { onStop: () => say(STOPPING) });
  const startedAt = performance.now();
  const lost = await send(plan, { options, tally, stopping });
  stopping.close();
  process.stdout.write(writeReport({ plan, tally, seconds: (performance.now() - startedAt) / 1_000 }));
  const isOver = lost === undefined && !stopping.signal.aborted;
  if (!isOver)
    say(`replay: ${lost ?? 'stopped'}; ${describePlace(plan, tally)}; the same command goes on from there\n`);
  return isOver && isComplete({ plan, tally }) ? 0 : 1;
}

async function readPlan({ path, maxInvoices }: ReplayOptions): Promise<Plan> {
  const file = await openCsv(path);
  const plan = await makePlan(readRows(file), { sha256: file.sha256, maxInvoices });
  if (plan.rows.read === 0) throw new ToolError(`${path} has no rows below the names of its columns`);
  return plan;
}

interface Sending {
  readonly options: ReplayOptions;
  readonly tally: Tally;
  readonly stopping: Stopping;
}

/** @returns why the server was given up, if it was */
async function send(plan: Plan, { options, tally, stopping: { signal } }: Sending): Promise<string | undefined> {
  const ledger = options.ledgerPath === undefined ? NO_LEDGER : openLedger(options.ledgerPath);
  const progress = openProgress({ plan, tally, terminal: process.stderr });
  const client = createGraphqlClient({ ...options, scopes: STORE_SCOPES, signal, onRetry: progress.trouble });
  const store = createStore({
    client,
    keyPrefix: plan.keyPrefix,
    onAcknowledged(line) {
      ledger.write(line);
      tally.changes += 1;
    },
  });
  try {
    await run(plan, { store, tally, signal, concurrency: options.concurrency });
    return undefined;
  } catch (error) {
    if (error instanceof ServerLost) return error.message;
    throw error;
  } finally {
    progress.close();
    ledger.close();
  }
}

function describePlace(plan: Plan, { phase, finished }: Tally): string {
  return `${finished} of ${countOf(plan, phase)} ${phase} are done`;
}

if (import.meta.main) {
  process.stdout.on('error', () => {}); // `| head` has seen enough; what was begun is ended in order all the same
  process.exitCode = await runProgram('replay', { main: () => main(process.argv.slice(2), process.env), say });
}
