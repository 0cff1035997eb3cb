import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { makeKey } from '../src/identity/key-format.ts';
import { createEmbeddedFolder, createTestDatabase } from './support/database.ts';
import { type FanfareProcess, startFanfare } from './support/fanfare-process.ts';
import { buySomething, expectEqualEverywhere, listenEverywhere, type Server } from './support/journey.ts';
import { redisUrl } from './support/redis.ts';

const run = promisify(execFile);

describe('an order that is placed, paid and shipped is the same on each channel', () => {
  it('embedded', async () => {
    const key = makeKey();
    const { dataDir, remove } = await createEmbeddedFolder();
    const process = await startFanfare({ DATA_DIR: dataDir, ADMIN_API_KEY: key });
    await makeJourney({ ...process, key });
    expect(await process.stop()).toBe(0);
    await remove();
  });

  it('on Postgres and Redis, with three processes, and again by SQL from another program', async () => {
    const key = makeKey();
    const database = await createTestDatabase();
    const env = {
      DATABASE_URL: database.url,
      REDIS_URL: redisUrl(),
      SECRETS_KEY: 'ef'.repeat(32),
      ADMIN_API_KEY: key,
      WEBHOOK_ALLOW_CIDRS: '127.0.0.0/8',
    };
    const processes: FanfareProcess[] = [];
    for (const role of ['api', 'relay', 'webhooks']) processes.push(await startFanfare({ ...env, ROLES: role }));
    const server = { url: processes[0]?.url ?? '', wsUrl: processes[0]?.wsUrl ?? '', key };
    const { productId } = await makeJourney(server);
    await journeyBySql(server, { databaseUrl: database.url, productId });
    for (const process of processes) expect(await process.stop()).toBe(0);
    await database.drop();
  });
});

async function makeJourney(server: Server): Promise<{ readonly productId: string }> {
  const listeners = await listenEverywhere(server);
  const { productId, orderId } = await buySomething(server);
  const taken = await listeners.take(3);
  expect(taken.pull.map(({ name, subjectId }) => [name, subjectId])).toEqual([
    ['order.placed', orderId],
    ['order.paid', orderId],
    ['order.shipped', orderId],
  ]);
  expectEqualEverywhere(taken);
  await listeners.close();
  return { productId };
}

/** A program that knows nothing of Fanfare but `fanfare.emit` changes a row and emits, in one transaction. */
async function journeyBySql(
  server: Server,
  { databaseUrl, productId }: { databaseUrl: string; productId: string },
): Promise<void> {
  const listeners = await listenEverywhere(server);
  const script = `
    begin;
    update products set title = 'by hand' where id = '${productId}';
    select fanfare.emit('acc_default', 'product.updated', p.id, jsonb_build_object('product', jsonb_build_object(
      'productId', p.id, 'sku', p.sku, 'title', p.title, 'stock', p.stock,
      'version', (select version + 1 from fanfare.subject where id = p.id),
      'price', jsonb_build_object('amount', '12.50', 'currency', 'GBP'))), array['title'], actor => 'psql')
    from products p where id = '${productId}';
    commit;`;
  await run('psql', [databaseUrl, '--set=ON_ERROR_STOP=1', '--command', script.replaceAll('\n', ' ')]);
  const taken = await listeners.take(1);
  expect(taken.pull).toMatchObject([
    { name: 'product.updated', changed: ['title'], actor: 'psql', product: { title: 'by hand' } },
  ]);
  expectEqualEverywhere(taken);
  await listeners.close();
}
