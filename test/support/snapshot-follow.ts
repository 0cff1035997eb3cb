import { domain } from '#domain';
import { type GraphqlAnswer, startApp, type TestApp } from './app.ts';
import { eventually } from './eventually.ts';
import { queryBeside } from './installation.ts';
import { stockClient } from './live-client.ts';
import { withClient } from './postgres-client.ts';

const PRODUCTS = 40;
const WRITERS = 20;
/** Writers rest before, inside and behind their transactions: at most so long each time. */
const REST_MS = 18;

const SNAPSHOT = '{ head products(first: 100) { nodes { id version stock } } }';
const DATA = '{ products(first: 100) { nodes { id version stock } } }';
const FOLLOW =
  'subscription ($after: String) { events(after: $after) { position subjectId subjectVersion ... on StockChanged { stock by } } }';

/** What a client knows of a product. */
interface Known {
  readonly version: number;
  /** As the last event told. */
  readonly stock: number;
  /** As the sum of what came in and went out: each event counts exactly once, or it is wrong. */
  readonly sum: number;
}

/** How a trial goes about it. */
export type Way = 'right' | 'head after the data' | 'without the version rule';

export interface SnapshotShop {
  /** Starts writers, begins trials at random moments among their writes, and gives for each whether it ends equal to the database. */
  round(ways: readonly Way[]): Promise<readonly boolean[]>;
  /** Changes that were committed, and for how long writers were at it. */
  written(): { readonly changes: number; readonly seconds: number };
  stop(): Promise<void>;
}

/** A shop whose stock other programs change, by SQL, some thousand times a second in all. */
export async function openSnapshotShop(): Promise<SnapshotShop> {
  const app = await startApp({ backend: 'postgres and redis', domain });
  await queryBeside(app, SEED, [PRODUCTS]);
  await queryBeside(app, CHANGE_STOCK);
  await queryBeside(app, WRITER);
  const client = stockClient(app.wsUrl, app.key, { keepAlive: 0 });
  let changes = 0;
  let seconds = 0;
  return {
    async round(ways) {
      const before = await countEvents(app);
      const startedAt = performance.now();
      let areBegun = false;
      const writing = Array.from({ length: WRITERS }, () => writeUntil(app, () => areBegun));
      const folding = ways.map(async (way) => {
        await rest(Math.random() * 900);
        return startTrial(app, { client, way });
      });
      const trials = await Promise.all(folding).finally(() => {
        areBegun = true;
      });
      await Promise.all(writing);
      seconds += (performance.now() - startedAt) / 1_000;
      changes += (await countEvents(app)) - before;
      const truth = await readTruth(app);
      const outcomes = [];
      for (const trial of trials) outcomes.push(await trial.isEqual(truth));
      return outcomes;
    },
    written: () => ({ changes, seconds }),
    async stop() {
      await client.dispose();
      await app.stop();
    },
  };
}

interface Truth {
  readonly stocks: ReadonlyMap<string, number>;
  readonly head: number;
}

interface Trial {
  isEqual(truth: Truth): Promise<boolean>;
}

interface TrialOptions {
  readonly client: ReturnType<typeof stockClient>;
  readonly way: Way;
}

async function startTrial(app: TestApp, { client, way }: TrialOptions): Promise<Trial> {
  const { head, nodes } = await readSnapshot(app, way);
  const state = new Map<string, Known>(nodes.map(({ id, version, stock }) => [id, { version, stock, sum: stock }]));
  await rest(Math.random() * 30);
  let position = 0;
  const unsubscribe = client.subscribe<{ events: StockEvent }>(
    { query: FOLLOW, variables: { after: head } },
    {
      next: ({ data }) => {
        const event = data?.events;
        if (event === undefined) return;
        position = Number(event.position);
        const known = state.get(event.subjectId);
        const isNew = known !== undefined && event.subjectVersion > known.version;
        if (known !== undefined && (isNew || way === 'without the version rule'))
          state.set(event.subjectId, { version: event.subjectVersion, stock: event.stock, sum: known.sum + event.by });
      },
      error: () => {},
      complete: () => {},
    },
  );
  return {
    async isEqual({ stocks, head: last }) {
      await eventually(() => position === last, { describe: `position ${last}` });
      unsubscribe();
      return [...state].every(([id, { stock, sum }]) => stock === stocks.get(id) && sum === stock);
    },
  };
}

interface StockEvent {
  readonly position: string;
  readonly subjectId: string;
  readonly subjectVersion: number;
  readonly stock: number;
  readonly by: number;
}

interface ProductNode {
  readonly id: string;
  readonly version: number;
  readonly stock: number;
}

interface Snapshot {
  readonly head: string;
  readonly nodes: readonly ProductNode[];
}

/** The naive ways meet the change that they cannot cope with by design: however quick or slow, one comes just then. */
async function readSnapshot(app: TestApp, way: Way): Promise<Snapshot> {
  if (way === 'head after the data') {
    const { nodes } = await ask(app, DATA);
    await eventually(isStamped(app, await changeStock(app)));
    return { nodes, head: (await ask(app, '{ head }')).head };
  }
  if (way === 'right') return ask(app, SNAPSHOT);
  return withClient(app.env.DATABASE_URL ?? '', async (client) => {
    await client.query('begin');
    await client.query('select from fanfare.shard order by id for update');
    await changeStock(app);
    // shows the change, whose event has no position while the shards are locked
    const snapshot = await ask(app, SNAPSHOT);
    await client.query('rollback');
    return snapshot;
  });
}

async function ask(app: TestApp, query: string): Promise<Snapshot> {
  const { data }: GraphqlAnswer = await app.post(query);
  return { head: data.head, nodes: data.products?.nodes ?? [] };
}

/** Changes a product; gives the event's id. */
async function changeStock(app: TestApp): Promise<string | undefined> {
  const [change] = await queryBeside<{ id: string }>(app, "select change_stock('prod_1', 0) as id");
  return change?.id;
}

const isStamped = (app: TestApp, id: string | undefined) => async () =>
  (await queryBeside(app, 'select from fanfare.event e join fanfare.log l using (seq) where e.id = $1', [id])).length >
  0;

async function readTruth(app: TestApp): Promise<Truth> {
  const rows = await queryBeside<{ id: string; stock: number }>(app, 'select id, stock from products');
  const waiting = 'select count(*)::int as count from fanfare.outbox';
  await eventually(async () => (await queryBeside<{ count: number }>(app, waiting))[0]?.count === 0);
  const [last] = await queryBeside<{ position: number }>(
    app,
    "select position::int from fanfare.head where account_id = 'acc_default'",
  );
  return { stocks: new Map(rows.map(({ id, stock }) => [id, stock])), head: last?.position ?? 0 };
}

async function countEvents(app: TestApp): Promise<number> {
  return (await queryBeside<{ count: number }>(app, 'select count(*)::int as count from fanfare.event'))[0]?.count ?? 0;
}

/** Writes on until every trial has begun, and at least for as long as trials wait before they begin. */
function writeUntil(app: TestApp, isDone: () => boolean): Promise<void> {
  return withClient(app.env.DATABASE_URL ?? '', async (client) => {
    do await client.query(`call write_stock(0.3, ${REST_MS / 1_000}, ${PRODUCTS})`);
    while (!isDone());
  });
}

const rest = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

const SEED = `insert into products (id, account_id, sku, title, price_minor, currency, stock)
  select 'prod_' || n, 'acc_default', 'SKU-' || n, 'A product', 100, 'EUR', 1000 from generate_series(1, $1::int) n`;

/** Adds to a product's stock and tells of it, with a rest between; gives the event's id. */
const CHANGE_STOCK = `create function change_stock(p_product text, p_rest float) returns text language plpgsql as $$
  declare
    delta int := floor(random() * 9)::int + 1;
    product record;
  begin
    update products set stock = stock + delta where id = p_product returning sku, stock into product;
    perform pg_sleep(random() * p_rest);
    return fanfare.emit('acc_default', 'stock.changed', p_product, jsonb_build_object('sku', product.sku,
      'stock', product.stock, 'by', delta, 'reason', 'ADJUSTED', 'orderId', null), array['stock']);
  end
$$`;

/** Changes up to three products in one transaction, in the order of their ids, with rests before, between and behind. */
const WRITER = `create procedure write_stock(p_seconds float, p_rest float, p_products int) language plpgsql as $$
  declare
    until timestamptz := clock_timestamp() + p_seconds * interval '1 second';
    product record;
  begin
    while clock_timestamp() < until loop
      for product in
        select id from products where id in (
          select 'prod_' || (1 + floor(random() * p_products))::int from generate_series(1, 1 + floor(random() * 3)::int))
        order by id
      loop
        perform change_stock(product.id, p_rest / 3);
      end loop;
      commit;
      perform pg_sleep(random() * p_rest);
    end loop;
  end
$$`;
