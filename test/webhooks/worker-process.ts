import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { connectPostgres } from '../../src/database/connect.ts';
import { createAddressPolicy } from '../../src/webhooks/addresses.ts';
import { createSender } from '../../src/webhooks/attempt.ts';
import { createCallbackGuard } from '../../src/webhooks/guard.ts';
import { createResolver } from '../../src/webhooks/resolver.ts';
import { createSealer } from '../../src/webhooks/seal.ts';
import { createWebhookWorker } from '../../src/webhooks/worker.ts';
import { createEngineServices } from '../support/engine.ts';
import { domain } from '../support/toy-domain.ts';
import { createNaiveSender } from './naive-sender.ts';
import type { WorkerSettings } from './worker-fleet.ts';

// A worker in a process of its own, for tests that kill, freeze or measure it. Prints each observation as a line of JSON, and at
// SIGUSR2 its memory.
const [url = '', given = '{}'] = process.argv.slice(2);
// what a fleet gives
const told = JSON.parse(given) as WorkerSettings;
const { version = '0.0.0', deadlineMs = 8_000, nameServer = '127.0.0.1:9', isQuiet, isNaive, ...settings } = told;
const guard = createCallbackGuard({
  policy: createAddressPolicy({ allowCidrs: ['127.0.0.0/8'] }),
  resolver: createResolver({ servers: [nameServer] }),
  now: Date.now,
});
const sealer = createSealer({ key: new Uint8Array(32).fill(7) });
const schema = domain.toSchema();
const database = await connectPostgres({ url, maxConnections: 3, applicationName: version });
const engine = await createEngineServices(database, domain);
const sender = isNaive ? createNaiveSender({ deadlineMs }) : createSender({ guard, version, deadlineMs });
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
process.on('SIGUSR2', () => {
  measureMemory().catch((error) => process.stderr.write(`${error}\n`));
});
process.stdout.write('{"name":"worker.started"}\n');
await worker.run(new AbortController().signal);

/** Without what only waits for the collector. What one pass frees lets the next one free more. */
async function measureMemory(): Promise<void> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void; // what the flag puts there
  for (let pass = 0; pass < 3; pass++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { heapUsed, external, rss } = process.memoryUsage();
  process.stdout.write(`${JSON.stringify({ name: 'worker.memory', heapUsed, external, rss })}\n`);
}
