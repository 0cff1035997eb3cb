import { withClient } from '../test/support/postgres-client.ts';
import type { OrderStatements } from './baselines/order-statements.ts';
import type { Bed } from './support/bed.ts';
import type { EngineLoad } from './support/engine-program.ts';
import type { ClosedLoad, Load } from './support/load-program.ts';
import type { Throughput } from './support/pace.ts';
import type { Row } from './support/report.ts';
import { interleave } from './support/rounds.ts';
import { startCluster } from './support/server.ts';
import { insertProducts, PRODUCTS } from './support/store.ts';
import { describeCost, type Parts, startUsageMeter, type Used } from './support/usage.ts';

const CONCURRENCY = 8;
const SECONDS = 3;

interface Round extends Used {
  readonly perSecond: number;
}

/**
 * `orderPlace` of three lines (an order, three lines, three stocks, four events) by 8 callers, over HTTP and without it,
 * against the same statements on bare `pg`. The relay stamps the events of all of them meanwhile.
 */
export async function benchOrders(bed: Bed, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  const { api, relay, databaseUrl } = await startCluster(bed);
  const load = bed.startWorker<Load>(new URL('support/load-program.ts', import.meta.url));
  const engine = bed.startWorker<EngineLoad>(new URL('support/engine-program.ts', import.meta.url));
  const bare = bed.startWorker<OrderStatements>(new URL('baselines/order-statements.ts', import.meta.url));
  await load.call('connect', { url: api.url, key: api.key }, CONCURRENCY);
  await engine.call('open', { databaseUrl, connections: CONCURRENCY });
  await bare.call('open', { databaseUrl, connections: CONCURRENCY });
  const task = {
    productIds: await insertProducts(databaseUrl, PRODUCTS),
    concurrency: CONCURRENCY,
    seconds: SECONDS,
  } satisfies ClosedLoad;
  const parts = { relay: () => [relay.pid], ...bed.parts };
  const overHttp = () =>
    measure(databaseUrl, { ...parts, api: () => [api.pid], client: () => [load.pid] }, () =>
      load.call('placeOrders', task),
    );
  const withoutHttp = () =>
    measure(databaseUrl, { ...parts, engine: () => [engine.pid] }, () => engine.call('placeOrders', task));
  const baseline = () =>
    measure(databaseUrl, { ...parts, client: () => [bare.pid] }, () => bare.call('placeOrders', task));
  const http = await interleave<Round>({ name: 'orders: over HTTP', rounds, subject: overHttp, baseline });
  const direct = await interleave<Round>({ name: 'orders: without HTTP', rounds, subject: withoutHttp, baseline });
  return [toRow('orders: orderPlace over HTTP', http), toRow('orders: the same without HTTP and GraphQL', direct)];
}

function toRow(name: string, { subject, baseline }: { subject: readonly Round[]; baseline: readonly Round[] }): Row {
  return {
    name,
    unit: 'orders/s',
    subject: subject.map(({ perSecond }) => perSecond),
    baseline: baseline.map(({ perSecond }) => perSecond),
    limitedBy: describeCost(subject),
  };
}

/** @throws Error if the database does not hold exactly the orders that were acknowledged, each with its events */
async function measure(databaseUrl: string, parts: Parts, run: () => Promise<Throughput>): Promise<Round> {
  const before = await countOrders(databaseUrl);
  const meter = startUsageMeter(parts);
  const { count, seconds } = await run();
  const usage = meter.stop();
  const after = await countOrders(databaseUrl);
  if (after.orders - before.orders !== count || after.events - before.events !== count)
    throw new Error(`${count} orders were acknowledged; the database has ${JSON.stringify({ before, after })}`);
  return { perSecond: count / seconds, count, usage };
}

function countOrders(databaseUrl: string): Promise<{ orders: number; events: number }> {
  return withClient(databaseUrl, async (client) => {
    const { rows } = await client.query<{ orders: number; events: number }>(
      `select (select count(*) from orders)::int as orders,
              (select count(*) from fanfare.event where name = 'order.placed')::int as events`,
    );
    return rows[0] ?? { orders: 0, events: 0 };
  });
}
