import { randomBytes } from 'node:crypto';
import { type Env, ToolError } from './command-line.ts';
import { createGraphqlClient, ServerLost } from './graphql-client.ts';
import { runProgram, stopOnSignals } from './program.ts';
import { STORE_SCOPES } from './store.ts';
import { type Leg, makeJourney } from './tour/journey.ts';
import { readTourOptions, TOUR_HELP, type TourOptions } from './tour/options.ts';
import { findDifferences, writeTourReport } from './tour/report.ts';

const SCOPES = [...STORE_SCOPES.filter((scope) => !scope.startsWith('customers:')), 'webhooks:read', 'webhooks:write'];
/** A server that does not answer for as long isn't running. */
const GIVE_UP_AFTER_MS = 5_000;

const tell = (text: string) => void process.stdout.write(`${text}\n`);
const say = (text: string) => void process.stderr.write(text);

/** Shows one order's events as they arrive in four ways. @returns the exit code */
async function main(args: readonly string[], env: Env): Promise<number> {
  const options = await readTourOptions(args, env);
  if (options === undefined) {
    tell(TOUR_HELP.trimEnd());
    return 0;
  }
  const stopping = stopOnSignals(process, { onStop: () => say('\nstopping: the webhook is deleted first\n') });
  try {
    const legs = await travel(options, stopping.signal);
    tell(writeTourReport(legs));
    return findDifferences(legs).length === 0 ? 0 : 1;
  } catch (error) {
    if (error instanceof ServerLost) throw new ToolError(`${error.message}; is the server running?`);
    throw error;
  } finally {
    stopping.close();
  }
}

async function travel({ callbackHost, ...server }: TourOptions, signal: AbortSignal): Promise<readonly Leg[]> {
  const client = createGraphqlClient({ ...server, scopes: SCOPES, giveUpAfterMs: GIVE_UP_AFTER_MS });
  let step = 0;
  tell(`A tour of ${server.url}\n`);
  return makeJourney({
    client,
    server,
    callbackHost,
    signal,
    tourId: randomBytes(4).toString('hex').toUpperCase(),
    tell(caption) {
      step += 1;
      tell(`${step}. ${caption}`);
    },
  });
}

if (import.meta.main) {
  process.stdout.on('error', () => {}); // `| head` has seen enough; what was begun is ended in order all the same
  process.exitCode = await runProgram('tour', { main: () => main(process.argv.slice(2), process.env), say });
}
