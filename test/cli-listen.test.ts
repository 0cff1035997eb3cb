import { Webhook as Verifier } from 'standardwebhooks';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { domain } from '#domain';
import { withEnvelope } from '../src/cli/callback.ts';
import { newSecret } from '../src/webhooks/sign.ts';
import { startApp, type TestApp } from './support/app.ts';
import { startCli } from './support/cli.ts';
import { eventually } from './support/eventually.ts';
import { openReceiver, type Receiver } from './support/receiver.ts';
import { startSecondApp } from './support/second-app.ts';

const SECRET = newSecret();

describe('fanfare listen', () => {
  let app: TestApp;
  let env: Record<string, string>;
  let receiver: Receiver;

  beforeAll(async () => {
    app = await startApp({ backend: 'postgres', domain });
    env = { PORT: String(app.app.port), ADMIN_API_KEY: app.key };
  });
  afterAll(() => app?.stop());
  beforeEach(async () => {
    receiver = await openReceiver();
    return () => receiver.close();
  });

  const listen = (...args: string[]) =>
    startCli(['listen', '--forward-to', `${receiver.url}/hook`, ...args], { ...env, WEBHOOK_SECRET: SECRET });
  const skus = () => receiver.requests.map(({ body }) => JSON.parse(body.toString()).data.product.sku);
  const head = async () => (await app.post('{ head }')).data.head as string;

  async function createProducts(
    prefix: string,
    count: number,
    { post }: Pick<TestApp, 'post'> = app,
  ): Promise<string[]> {
    const names = Array.from({ length: count }, (_, n) => `${prefix}-${n}`);
    for (const sku of names) {
      const input = { sku, title: 'A thing', price: { amount: '4.50', currency: 'GBP' } };
      await post('mutation ($input: ProductCreateInput!) { productCreate(input: $input) { __typename } }', { input });
    }
    return names;
  }

  test('forwards each event, signed as the server signs, and prints it with its answer', async () => {
    const listening = listen('productCreated');
    await listening.untilSays('connected, live');
    await createProducts('tea', 1);
    const { body, headers } = await receiver.next();
    const verified = new Verifier(SECRET).verify(body, headers as Record<string, string>);
    const { data } = await app.post('{ events(last: 1) { nodes { id position occurredAt cursor } } }');
    const [event] = data.events.nodes;
    expect(verified).toMatchObject({
      type: 'product.created',
      timestamp: event.occurredAt,
      data: { id: event.id, position: event.position, product: { sku: 'tea-0' } },
    });
    expect(Object.keys((verified as { data: object }).data).filter((name) => name.startsWith('listen'))).toEqual([]);
    expect(headers).toMatchObject({ 'fanfare-event-id': event.id, 'fanfare-cursor': event.cursor });
    await eventually(() =>
      expect(listening.printed()).toMatch(
        new RegExp(`^${event.occurredAt} ${event.position} product.created -> 200 in \\d+ ms\n$`),
      ),
    );
    listening.child.kill('SIGINT');
    expect(await listening.code).toBe(0);
    expect(listening.said()).toContain('forwarded 1, of which 0 failed');
    expect(listening.said()).toContain(`--after ${event.cursor}`);
  });

  test('replays a range, with the same ids, and ends', async () => {
    const before = await head();
    const names = await createProducts('range', 5);
    const { data } = await app.post(
      'query ($after: String) { events(after: $after, first: 3) { nodes { position } } }',
      { after: before },
    );
    const until = data.events.nodes[2].position;
    for (let run = 0; run < 2; run++)
      expect(await listen('productCreated', '--after', before, '--until', until).code).toBe(0);
    expect(skus()).toEqual([...names.slice(0, 3), ...names.slice(0, 3)]);
    const ids = receiver.requests.map(({ headers }) => headers['webhook-id']);
    expect(ids.slice(0, 3)).toEqual(ids.slice(3));
    expect(new Set(ids).size).toBe(3);
    // what lies ahead of the log ends with the log
    expect(await listen('productCreated', '--after', before, '--until', '999999').code).toBe(0);
    expect(skus().slice(6)).toEqual(names);
  });

  test('says what failed, goes on, and how to forward it again', async () => {
    const before = await head();
    await createProducts('failing', 3);
    receiver.script('/hook', {}, { status: 500 }, { status: 302, headers: { location: 'http://127.0.0.1:1/' } });
    const listening = listen('productCreated', '--after', before, '--until', '999999');
    expect(await listening.code).toBe(1);
    expect(listening.printed().match(/-> \w+/g)).toEqual(['-> 200', '-> 500', '-> 302']);
    expect(listening.said()).toContain('forwarded 3, of which 2 failed');
    const again = /to forward them again: --after (\S+)/.exec(listening.said())?.[1] ?? '';
    expect(await listen('productCreated', '--after', again, '--until', '999999').code).toBe(0);
    expect(skus().slice(3)).toEqual(['failing-1', 'failing-2']);
    const gone = await openReceiver();
    await gone.close();
    const forwardTo = ['--forward-to', gone.url];
    const down = startCli(['listen', 'productCreated', ...forwardTo, '--after', again, '--until', '999999'], env);
    expect(await down.code).toBe(1);
    expect(down.printed()).toContain('ECONNREFUSED');
    expect(down.said()).toMatch(/signed with whsec_\S+/);
  });

  test('says how to forward the very first again, also when the stream is refused', async () => {
    receiver.script('/hook', { status: 500 });
    const key = (
      await app.post(
        'mutation { apiKeyCreate(scopes: ["events:read", "introspect", "products:read"]) { ... on ApiKeyCreateSuccess { apiKey { id } secret } } }',
      )
    ).data.apiKeyCreate;
    const listening = listen('productCreated', '--key', key.secret);
    await listening.untilSays('connected, live');
    await createProducts('first', 1);
    await eventually(() => expect(listening.printed()).toContain('-> 500'));
    await app.post('mutation ($id: ID!) { apiKeyRevoke(id: $id) { __typename } }', { id: key.apiKey.id });
    expect(await listening.code).toBe(1);
    const again = /to forward them again: --after (\S+)/.exec(listening.said())?.[1] ?? '';
    expect(await listen('productCreated', '--after', again, '--until', '999999').code).toBe(0);
    expect(skus()).toEqual(['first-0', 'first-0']);
  });

  test('goes on behind what was forwarded after a lost connection, and tells the truth meanwhile', async () => {
    const own = await startApp({ backend: 'postgres', domain });
    const server = { PORT: String(own.app.port), ADMIN_API_KEY: own.key };
    const forwardTo = ['--forward-to', `${receiver.url}/hook`];
    const listening = startCli(['listen', 'productCreated', ...forwardTo], { ...server, WEBHOOK_SECRET: SECRET });
    await listening.untilSays('connected, live');
    const first = await createProducts('before', 2, own);
    await receiver.next(({ body }) => body.includes('before-1'));
    await own.app.stop();
    await listening.untilSays('interrupted');
    const elsewhere = await startSecondApp(own, { domain, env: { PORT: '0' } });
    const missed = await createProducts('meanwhile', 2, elsewhere);
    await elsewhere.stop();
    const back = await startSecondApp(own, { domain, env: { PORT: server.PORT } });
    await receiver.next(({ body }) => body.includes('meanwhile-1'));
    const after = await createProducts('after', 1, back);
    await receiver.next(({ body }) => body.includes('after-0'));
    expect(skus()).toEqual([...first, ...missed, ...after]);
    const states = listening.said().match(/connected, live|interrupted/g) ?? [];
    expect(states.filter((state, at) => state !== states[at - 1])).toEqual([
      'connected, live',
      'interrupted',
      'connected, live',
    ]);
    listening.child.kill('SIGTERM');
    expect(await listening.code).toBe(0);
    await back.stop();
    await own.stop();
  });

  test.each([
    [['listen'], 2, 'listen needs --forward-to http://localhost:3000/hook'],
    [['listen', '--forward-to', 'localhost:3000'], 2, 'found "localhost:3000"'],
    [['listen', '--forward-to', 'http://localhost:1/', '--until', '3'], 2, '--until needs --after'],
    [
      ['listen', '--forward-to', 'http://localhost:1/', '--after', 'x', '--until', '0'],
      2,
      'expected a position such as 42, found "0"',
    ],
    [
      ['listen', '--forward-to', 'http://localhost:1/', '--secret', 'hush'],
      1,
      '--secret: expected a signing secret of the form whsec_',
    ],
    [['listen', '--forward-too', 'http://localhost:1/'], 2, 'did you mean "--forward-to"?'],
    [['listen', 'orderPlacd', '--forward-to', 'http://localhost:1/'], 1, 'did you mean "orderPlaced"?'],
  ])('%j is refused', async (args, code, message) => {
    const run = startCli(args, env);
    expect(await run.code).toBe(code);
    expect(run.said()).toContain(message);
  });
});

test.each([
  'subscription { a { b } c { d } }',
  'subscription { ...F } fragment F on Subscription { a { b } }',
  'subscription A { a { b } } subscription B { a { b } }',
  'fragment F on Event { id }',
  'subscription {',
])('a document that is no subscription with one root field is refused: %s', (document) => {
  expect(() => withEnvelope(document)).toThrow('--query: ');
});
