import { connectPostgres } from '../../src/database/connect.ts';
import { createAddressPolicy } from '../../src/webhooks/addresses.ts';
import { createSender } from '../../src/webhooks/attempt.ts';
import { createCallbackGuard } from '../../src/webhooks/guard.ts';
import { createResolver } from '../../src/webhooks/resolver.ts';
import { createSealer } from '../../src/webhooks/seal.ts';
import { createWebhookWorker } from '../../src/webhooks/worker.ts';
import { createEngineServices } from '../support/engine.ts';
import { domain } from '../support/toy-domain.ts';
import type { WorkerSettings } from './worker-fleet.ts';

// A worker in a process of its own, for tests that kill or freeze it. Prints each observation as a line of JSON.
const [url = '', given = '{}'] = process.argv.slice(2);
// what a fleet gives
const { version = '0.0.0', deadlineMs = 8_000, isQuiet = false, ...settings } = JSON.parse(given) as WorkerSettings;
const guard = createCallbackGuard({
  policy: createAddressPolicy({ allowCidrs: ['127.0.0.0/8'] }),
  resolver: createResolver({ servers: ['127.0.0.1:9'] }),
  now: Date.now,
});
const sealer = createSealer({ key: new Uint8Array(32).fill(7) });
const schema = domain.toSchema();
const database = await connectPostgres({ url, maxConnections: 3 });
const engine = await createEngineServices(database, domain);
const sender = createSender({ guard, version, deadlineMs });
const worker = createWebhookWorker({
  engine,
  schema,
  sender,
  sealer,
  leaseMs: 1_500,
  attemptMs: 500,
  pollMs: 20,
  originRate: 1_000_000, // one receiver stands for all
  ...settings,
  observe: (observation) => {
    if (!(isQuiet && observation.name === 'delivery.attempted'))
      process.stdout.write(`${JSON.stringify(observation)}\n`);
  },
});
process.stdout.write('{"name":"worker.started"}\n');
await worker.run(new AbortController().signal);
