import { connectPostgres } from '../../src/database/connect.ts';
import { systemClock } from '../../src/runtime/clock.ts';
import { runReplays } from '../../src/webhooks/replayer.ts';

// Steps replays in a process of its own, for tests that kill it.
const [url = ''] = process.argv.slice(2);
const database = await connectPostgres({ url, maxConnections: 1 });
await runReplays(
  {
    engine: { database, clock: systemClock },
    observe: () => {},
    onBorn: () => process.stdout.write('born\n'),
    pollMs: 5,
  },
  new AbortController().signal,
);
