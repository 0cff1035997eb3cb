import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, expectTypeOf, inject, onTestFinished, test, vi } from 'vitest';
import { domain } from '#domain';
import { AskError, ask } from '../../examples/typed-client/ask.ts';
import {
  HeadDocument,
  WatchedOrdersDocument,
  type WatchedOrdersSubscription,
} from '../../examples/typed-client/documents.ts';
import { generateDocuments } from '../../examples/typed-client/generate.ts';
import { type PlacedOrder, pullOrders, watchOrders } from '../../examples/typed-client/orders.ts';
import { type Callback, openReceiver, registerWebhook } from '../../examples/typed-client/receiver.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { buySomething } from '../support/journey.ts';
import { freePort } from '../support/servers.ts';

vi.setConfig({ testTimeout: 120_000 });
const PATIENTLY = { deadlineMs: 60_000 };

let app: TestApp;

beforeAll(async () => {
  app = await startApp({ backend: 'postgres', domain });
});

afterAll(() => app?.stop());

describe('an order that is placed', () => {
  test('is the same pulled, watched and called back', async () => {
    const stopping = new AbortController();
    const port = await freePort();
    const { secret } = await registerWebhook(app, WatchedOrdersDocument, `http://127.0.0.1:${port}/orders`);
    const calledBack: Callback<WatchedOrdersSubscription>[] = [];
    const onCallback = (callback: Callback<WatchedOrdersSubscription>) => void calledBack.push(callback);
    await openReceiver<WatchedOrdersSubscription>({ port, secret, onCallback }, stopping.signal);
    const { head: after } = await ask(app, HeadDocument, {});
    const watched: PlacedOrder[] = [];
    const onOrder = (order: PlacedOrder) => void watched.push(order);
    const watching = watchOrders(app, { after, signal: stopping.signal, onOrder });

    const { orderId } = await buySomething(app);
    await eventually(() => expect([watched.length, calledBack.length]).toEqual([1, 1]), PATIENTLY);
    const pulled = await Array.fromAsync(pullOrders(app, after));
    expect(pulled).toMatchObject([{ __typename: 'OrderPlaced', order: { orderId, total: { amount: '25.00' } } }]);
    expect(watched).toEqual(pulled);
    expect(calledBack).toMatchObject([{ type: 'order.placed', timestamp: pulled[0]?.occurredAt }]);
    expect(calledBack.map(({ data }) => data)).toEqual(pulled);

    const forged = await fetch(`http://127.0.0.1:${port}/orders`, { method: 'POST', body: '{}' });
    expect(forged.status).toBe(400);
    stopping.abort();
    await watching;
  });

  test('has the types of what its document asks for, and no more', () => {
    expectTypeOf<Callback<WatchedOrdersSubscription>['data']>().toEqualTypeOf<PlacedOrder>();
    expectTypeOf<PlacedOrder['order']['total']['amount']>().toEqualTypeOf<string>();
    // @ts-expect-error not asked for
    expectTypeOf<PlacedOrder['actor']>();
    // @ts-expect-error a variable of another name
    const refused = () => ask(app, WatchedOrdersDocument, { before: 'x' });
    expect(refused).toBeTypeOf('function');
  });

  test('is shown by the program, each way', async () => {
    await buySomething(app);
    const program = fileURLToPath(new URL('../../examples/typed-client/main.ts', import.meta.url));
    const port = await freePort();
    const child = spawn(process.execPath, [program, app.url, String(port)], {
      cwd: inject('run').scratchDir,
      env: { ...process.env, ADMIN_API_KEY: app.key },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const closed = once(child, 'close');
    onTestFinished(() => void child.kill('SIGKILL'));
    let printed = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text));
    await eventually(() => expect(printed).toMatch(/^pulled: \d+ 25\.00 GBP for 1 lines/m), PATIENTLY);
    await buySomething(app);
    await eventually(() => expect(printed).toMatch(/^watched: \d+ 25\.00 GBP/m), PATIENTLY);
    await eventually(() => expect(printed).toMatch(/^called back: \d+ 25\.00 GBP/m), PATIENTLY);
    child.kill('SIGINT');
    expect(await closed).toEqual([0, null]);
    const { data } = await app.post('{ webhooks(first: 10) { nodes { url } } }');
    expect(data.webhooks.nodes.map(({ url }: { url: string }) => url)).not.toContain(`http://127.0.0.1:${port}/orders`);
  });
});

test('an answer with errors is thrown by its code', async () => {
  const asking = ask({ url: app.url, key: 'ff_wrong' }, HeadDocument, {});
  await expect(asking).rejects.toThrow(AskError);
  await expect(asking).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
});

describe('the generated documents', () => {
  const read = (path: string) => readFile(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8');

  test('fit the schema and the operations', async () => {
    const [schema, operations] = await Promise.all([
      read('schema/schema.graphql'),
      read('examples/typed-client/orders.graphql'),
    ]);
    const generated = await generateDocuments(schema, operations);
    expect(generated, 'run "npm run example:generate" and commit the result').toBe(
      await read('examples/typed-client/documents.ts'),
    );
    expect(await generateDocuments(schema, operations.replace('first: 50', 'first: 20'))).not.toBe(generated);
    expect(
      await generateDocuments(schema.replaceAll('occurredAt: DateTime!', 'occurredAt: DateTime'), operations),
    ).not.toBe(generated);
    await expect(generateDocuments(schema, operations.replace('occurredAt', 'occurredOn'))).rejects.toThrow(
      'occurredOn',
    );
  });
});
