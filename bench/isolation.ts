import { once } from 'node:events';
import { type AddressInfo, createServer, type Server as TcpServer } from 'node:net';
import { eventually } from '../test/support/eventually.ts';
import { withClient } from '../test/support/postgres-client.ts';
import type { Bed } from './support/bed.ts';
import { type CallbackStage, openCallbackStage, SKU_LENGTH } from './support/callback-stage.ts';
import { type Client, createClient } from './support/client.ts';
import { readCommits } from './support/commits.ts';
import type { FloodLoad } from './support/flood-program.ts';
import type { Row } from './support/report.ts';
import { interleave } from './support/rounds.ts';
import { percentile } from './support/statistics.ts';

const HEALTHY = 20;
const HOLES = 5;
/** Of each of the others. */
const BACKLOG = 10_000;
const PER_SECOND = 50;
const SECONDS = 8;
/** Of one transaction. */
const BATCH = 10;

const CREATE = `mutation ($input: WebhookCreateInput!) {
  webhookCreate(input: $input) { ... on WebhookCreateSuccess { webhook { id } } ... on Refusal { refused: message } }
}`;

/**
 * 50 events a second to each of 20 webhooks, bodies of 2 KB, beside five whose receiver accepts and never answers, each with 10,000
 * deliveries due; against the same while those five are paused.
 */
export async function benchIsolation(bed: Bed, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  const stage = await openCallbackStage(bed, HEALTHY);
  const flood = bed.startWorker<FloodLoad>(new URL('support/flood-program.ts', import.meta.url));
  await flood.call('open', stage.cluster.env);
  const hole = bed.own(await openHole());
  const client = createClient(stage.cluster.api, 1);
  const ids = await digHoles(client, hole.url);
  await fillHoles(stage.cluster.databaseUrl);
  const change = (field: string) =>
    Promise.all(ids.map((id) => client.ask(`mutation ($id: ID!) { ${field}(id: $id) { __typename } }`, { id })));
  const run = () => runRound(stage, () => flood.call('run', FLOOD));
  const measured = await interleave<readonly number[]>({
    name: 'isolation',
    rounds,
    subject: async () => {
      await change('webhookResume');
      await eventually(() => hole.open() >= HOLES, { deadlineMs: 30_000, everyMs: 50 });
      return run();
    },
    baseline: async () => {
      await change('webhookPause');
      await eventually(() => hole.open() === 0, { deadlineMs: 60_000, everyMs: 200 });
      return run();
    },
  });
  await client.close();
  return [50, 99].map((percent) => ({
    name: `isolation: 20 healthy beside 5 that hang, p${percent}`,
    unit: 'ms',
    subject: measured.subject.map((latencies) => percentile(latencies, percent)),
    baseline: measured.baseline.map((latencies) => percentile(latencies, percent)),
    limitedBy: `${HEALTHY * PER_SECOND} deliveries/s; at most ${hole.most()} connections hung at once`,
  }));
}

const FLOOD = { perSecond: PER_SECOND, events: PER_SECOND * SECONDS, batch: BATCH, bytes: SKU_LENGTH };

/** ms from the commit to each arrival. */
async function runRound(
  { cluster, receiver, secrets }: CallbackStage,
  emit: () => Promise<unknown>,
): Promise<readonly number[]> {
  await receiver.call('begin', { count: FLOOD.events * HEALTHY, secrets, verifyEach: 20 });
  await emit();
  const { arrivals } = await receiver.call('finish');
  // more than the round's: notices of the webhooks that hang are in the log, too
  const commits = await readCommits(cluster.databaseUrl, FLOOD.events + 100);
  return arrivals.map(({ id, at }) => at - (commits.get(id)?.committed ?? Number.NaN));
}

/** Accepts, reads, and never answers. */
async function openHole() {
  const sockets = new Set<object>();
  let most = 0;
  const server: TcpServer = createServer((socket) => {
    sockets.add(socket);
    most = Math.max(most, sockets.size);
    socket.on('error', () => {}); // who gives up resets it
    socket.on('close', () => sockets.delete(socket));
    socket.resume();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo; // an address, since it listens on TCP
  return {
    url: `http://127.0.0.1:${port}/`,
    open: () => sockets.size,
    most: () => most,
    stop: async () => {
      server.close();
    },
  };
}

async function digHoles(client: Client, url: string): Promise<string[]> {
  const ids: string[] = [];
  for (let at = 0; at < HOLES; at++) {
    const input = { url: `${url}${at}`, eventTypes: ['PRODUCT_UPDATED'] };
    const { webhookCreate } = await client.ask<{ webhookCreate: { webhook: { id: string } } }>(CREATE, { input });
    ids.push(webhookCreate.webhook.id);
  }
  return ids;
}

async function fillHoles(databaseUrl: string): Promise<void> {
  await withClient(databaseUrl, async (client) => {
    for (let left = BACKLOG; left > 0; left -= 1_000)
      await client.query(
        `select fanfare.emit('acc_default', 'product.updated', 'prod_hole' || n, jsonb_build_object('product', jsonb_build_object(
           'productId', 'prod_hole' || n, 'version', 1, 'sku', 'SKU', 'title', 'Hole', 'stock', 1,
           'price', jsonb_build_object('amount', '1.00', 'currency', 'GBP'))), array['title'])
         from generate_series(1, 1000) n`,
      );
    const countOpen = async () => {
      const { rows } = await client.query<{ count: number }>('select count(*)::int as count from fanfare.delivery');
      return rows[0]?.count === BACKLOG * HOLES;
    };
    await eventually(countOpen, { deadlineMs: 120_000, everyMs: 500, describe: 'the backlogs to be due' });
  });
}
