import { eventually } from '../test/support/eventually.ts';
import type { Worker } from '../test/support/worker.ts';
import type { Bed } from './support/bed.ts';
import { createClient } from './support/client.ts';
import type { Load } from './support/load-program.ts';
import type { Row } from './support/report.ts';
import { interleave } from './support/rounds.ts';
import { makeDataDir, postgresEnv, type Server, startServer } from './support/server.ts';
import { describeCost, type Parts, startUsageMeter, type Used } from './support/usage.ts';

const CONCURRENCY = 8;
const SECONDS = 3;
/** Made by mutations, since nobody else can open the embedded database. */
const PRODUCTS = 200;
/** Its own, and one for each of its three products. */
const EVENTS_PER_ORDER = 4;

interface Round extends Used {
  readonly perSecond: number;
}

/**
 * The same orders, by 8 callers over HTTP, on the embedded database and on Postgres; both in one process with all roles.
 * Embedded does not wait for the disk at a commit, Postgres does.
 */
export async function benchEmbedded(bed: Bed, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  const embedded = await openSide(bed, 'embedded', { DATA_DIR: await makeDataDir(bed) });
  const postgres = await openSide(bed, 'postgres', postgresEnv(await bed.createDatabase()));
  const measured = await interleave<Round>({
    name: 'embedded',
    rounds,
    subject: () => embedded.run({}),
    baseline: () => postgres.run(bed.parts),
  });
  return [
    {
      name: 'embedded: orderPlace over HTTP, against one process on Postgres',
      unit: 'orders/s',
      subject: measured.subject.map(({ perSecond }) => perSecond),
      baseline: measured.baseline.map(({ perSecond }) => perSecond),
      limitedBy: describeCost(measured.subject),
    },
  ];
}

async function openSide(bed: Bed, name: string, env: Readonly<Record<string, string>>) {
  const server = await startServer(bed, { name, env });
  const load = bed.startWorker<Load>(new URL('support/load-program.ts', import.meta.url));
  await load.call('connect', { url: server.url, key: server.key }, CONCURRENCY);
  const productIds = await load.call('createProducts', PRODUCTS);
  let events = PRODUCTS;
  return {
    run: async (parts: Parts): Promise<Round> => {
      const { count, seconds, usage } = await measure({ server, load, productIds }, parts);
      events += count * EVENTS_PER_ORDER;
      await requirePosition(server, events);
      return { perSecond: count / seconds, count, usage };
    },
  };
}

interface Side {
  readonly server: Server;
  readonly load: Worker<Load>;
  readonly productIds: readonly string[];
}

async function measure({ server, load, productIds }: Side, parts: Parts) {
  const meter = startUsageMeter({ server: () => [server.pid], client: () => [load.pid], ...parts });
  const done = await load.call('placeOrders', { productIds, concurrency: CONCURRENCY, seconds: SECONDS });
  return { ...done, usage: meter.stop() };
}

/** @throws Error if the log does not end at this position: an event is missing, or there is one too many */
async function requirePosition(server: Server, events: number): Promise<void> {
  const client = createClient(server, 1);
  await eventually(
    async () => {
      const { events: page } = await client.ask<{ events: { nodes: { position: string }[] } }>(
        '{ events(last: 1) { nodes { position } } }',
      );
      const found = page.nodes[0]?.position;
      if (found !== String(events)) throw new Error(`expected the log to end at ${events}, found ${found}`);
    },
    { deadlineMs: 30_000, everyMs: 50, describe: 'all events to have their position' },
  );
  await client.close();
}
