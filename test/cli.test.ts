import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest';
import { domain } from '#domain';
import { readConfig } from '../src/config.ts';
import { makeKey, parseKey } from '../src/identity/key-format.ts';
import { bannerText } from '../src/main/banner.ts';
import { withDatabase } from '../src/main/offline.ts';
import { type Backend, startApp, type TestApp } from './support/app.ts';
import { BIN, printed, startCli } from './support/cli.ts';
import { startSecondApp } from './support/second-app.ts';

let app: TestApp;
let env: Record<string, string>;

beforeAll(async () => {
  app = await startApp({ backend: 'postgres', domain });
  env = { PORT: String(app.app.port), ADMIN_API_KEY: app.key };
});
afterAll(() => app?.stop());

describe('fanfare watch', () => {
  test('prints each event as one line of JSON, and ends with 0 at Ctrl-C', async () => {
    const watching = startCli(['watch'], env);
    await watching.untilSays('connected');
    await createProduct(app, 'tea');
    const [event] = await watching.untilPrints(1);
    expect(event).toMatchObject({
      __typename: 'ProductCreated',
      name: 'product.created',
      position: expect.any(String),
    });
    watching.child.kill('SIGINT');
    expect(await watching.code).toBe(0);
    expect(watching.said()).toContain(`--after ${event?.cursor}`);
  });

  test('goes on behind a cursor, with the events of some types only', async () => {
    const { data } = await app.post('{ head }');
    await createProduct(app, 'salt', 5);
    const watching = startCli(['watch', '--after', data.head, '--filter', 'product.created'], env);
    expect(await watching.untilPrints(1)).toMatchObject([{ name: 'product.created' }]);
    watching.child.kill('SIGTERM');
    expect(await watching.code).toBe(0);
  });

  test('prints all facts of one field, without the way to what is current', async () => {
    const { data } = await app.post('{ head }');
    await createProduct(app, 'rice');
    const watching = startCli(['watch', 'productCreated', '--after', data.head], env);
    const [event] = await watching.untilPrints(1);
    watching.child.kill('SIGINT');
    expect(event).toMatchObject({
      type: 'PRODUCT_CREATED',
      product: { sku: 'rice', price: { amount: '4.50', currency: 'GBP' } },
    });
    expect(Object.keys(event ?? {}).filter((name) => name.startsWith('current'))).toEqual([]);
    expect(await watching.code).toBe(0);
  });

  test('takes a document of its own', async () => {
    const { data } = await app.post('{ head }');
    await createProduct(app, 'oats');
    const file = join(inject('run').scratchDir, 'own.graphql');
    await writeFile(file, 'subscription ($after: String) { productCreated(after: $after) { product { sku } } }');
    const watching = startCli(['watch', '--query', file, '--after', data.head], env);
    expect(await watching.untilPrints(1)).toEqual([{ product: { sku: 'oats' } }]);
    watching.child.kill('SIGINT');
    expect(await watching.code).toBe(0);
  });

  test('says that the server is gone', async () => {
    const watching = startCli(['watch', '--url', 'http://127.0.0.1:1', '--key', app.key], {});
    await watching.untilSays("http://127.0.0.1:1/graphql can't be reached");
    watching.child.kill('SIGINT');
    expect(await watching.code).toBe(0);
  });

  test.each([
    [['watch', 'orderPlacd'], 1, 'did you mean "orderPlaced"?'],
    [['watch', '--after', 'made-up'], 1, 'not a cursor that this server gave out'],
    [['watch', '--key', 'ff_wrong'], 1, 'it was asked with the key (not of the form ff_…) from --key'],
    [['watch', '--filter', 'STOCK_CHANGD'], 1, 'STOCK_CHANGED'],
    [['watch', '--query', '/nowhere.graphql'], 1, "/nowhere.graphql can't be read"],
  ])('%j ends with %i', async (args, code, message) => {
    const run = startCli(args, env);
    expect(await run.code).toBe(code);
    expect(run.said().trim().split('\n').at(-1)).toContain(message);
    expect(await run.untilPrints(0)).toEqual([]);
  });
});

describe('fanfare ask', () => {
  test('prints the answer to a query with variables, and ends with 0', async () => {
    const query = 'query ($first: Int) { events(first: $first) { nodes { id } } }';
    const { code, out } = await ask([query, '--variables', '{"first": 0}']);
    expect([code, JSON.parse(out)]).toEqual([0, { data: { events: { nodes: [] } } }]);
  });

  test('reads a document from standard input', async () => {
    const { code, out } = await ask(['-'], '{ head }');
    expect([code, JSON.parse(out)]).toEqual([0, { data: { head: expect.any(String) } }]);
  });

  test('makes a change once under one idempotency key', async () => {
    const create =
      'mutation { productCreate(input: { sku: "once", title: "Once", price: { amount: "1", currency: "GBP" } }) { ... on ProductCreateSuccess { product { id } } } }';
    const [first, again] = [
      await ask([create, '--idempotency-key', 'k1']),
      await ask([create, '--idempotency-key', 'k1']),
    ];
    expect(JSON.parse(first.out).data.productCreate.product.id).toMatch(/^prod_/);
    expect(again.out).toBe(first.out);
  });

  test('prints errors as they came, and ends with 1', async () => {
    const { code, out } = await ask(['{ heads }']);
    expect([code, JSON.parse(out).errors[0].extensions.code]).toEqual([1, 'GRAPHQL_VALIDATION_FAILED']);
  });

  test('says which key was refused, and where it is from', async () => {
    const { code, err } = await ask(['{ head }', '--key', 'ff_abcdefghijkl_secret']);
    expect([code, err]).toEqual([1, 'fanfare: it was asked with the key ff_abcdefghijkl from --key\n']);
  });

  test.each([
    [[], 2, 'ask takes one document in quotes, found 0 words'],
    [['{', 'head', '}'], 2, 'found 3 words'],
    [['{ head }', '--variables', '[1]'], 2, 'expected a JSON object'],
    [['{ head }', '--variables', '{'], 2, 'expected a JSON object'],
    [['{ head }', '--variable', '{}'], 2, 'did you mean "--variables"?'],
    [['{ head }', '--url', 'http://127.0.0.1:1'], 1, "can't be reached"],
  ])('%j ends with %i', async (args, code, message) => {
    const ended = await ask(args);
    expect([ended.code, ended.out]).toEqual([code, '']);
    expect(ended.err).toContain(message);
  });

  async function ask(args: readonly string[], input = '') {
    const run = startCli(['ask', ...args], env);
    run.child.stdin.end(input);
    const code = await run.code;
    return { code, out: run.printed(), err: run.said() };
  }
});

describe('fanfare', () => {
  test.each([
    [['wacth'], 'there is no command "wacth"; did you mean "watch"?'],
    [['watch', '--afer', 'x'], 'there is no option --afer; did you mean "--after"?'],
    [['watch', '--url'], '--url needs a value'],
    [['watch', '--url', 'localhost:4000'], 'expected http://host:port'],
    [['watch', 'orderPlaced', '--filter', 'X'], 'one of FIELD, --filter and --query'],
    [['key', 'old'], 'expected "fanfare key new", found "old"'],
    [['version', 'now'], 'nothing to do with "now"'],
  ])('%j is not understood, and ends with 2', async (args, message) => {
    const run = startCli(args, { ADMIN_API_KEY: 'x' });
    expect(await run.code).toBe(2);
    expect(run.said()).toContain(message);
    expect(run.said().trim().split('\n')).toHaveLength(1);
  });

  test('says what is missing where it finds no key', async () => {
    const run = startCli(['watch'], { DATA_DIR: '/nowhere' });
    expect(await run.code).toBe(1);
    expect(run.said()).toContain('/nowhere/admin-key');
  });

  test('makes keys that the server takes', async () => {
    expect(parseKey((await printed(['key', 'new'])).trim())).toBeDefined();
    const secretsKey = (await printed(['secrets-key'])).trim();
    expect(() => config({ SECRETS_KEY: secretsKey, DATABASE_URL: 'postgres://localhost/x' })).not.toThrow();
  });

  test('prints its version and its help', async () => {
    expect(await printed(['--version'])).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(await printed([])).toContain('fanfare watch');
    expect(await printed(['watch', '--help'])).toContain('--after CURSOR');
  });
});

describe.each<Backend>(['embedded', 'postgres', 'postgres and redis'])('fanfare epoch new, %s', (backend) => {
  test('refuses while a server runs, then makes old cursors fail', async () => {
    const app = await startApp({ backend, domain });
    onTestFinished(app.stop);
    const { data } = await app.post('{ head }');
    const refused = startCli(['epoch', 'new'], app.env);
    expect(await refused.code).toBe(1);
    expect(refused.said()).toMatch(/another process|stop all of them/);

    await app.app.stop();
    expect(await printed(['epoch', 'new'], app.env)).toMatch(/^[0-9a-f]{16}\n$/);

    const again = await startSecondApp(app, { domain });
    const run = startCli(['watch', '--url', again.url, '--key', app.key, '--after', data.head], {});
    expect(await run.code).toBe(1);
    expect(run.said()).toContain('before the log was restored');
    await again.stop();
  });
});

describe('fanfare check-documents', () => {
  test('tells which registered documents this program can not use, while servers run', async () => {
    const app = await startApp({ backend: 'postgres', domain });
    onTestFinished(app.stop);
    const register = (selection: string) =>
      app.post(`mutation { webhookCreate(input: { url: "http://127.0.0.1:1/", ${selection} }) { __typename } }`);
    await register('eventTypes: [ORDER_PLACED]');
    const made = await register(
      'description: "old", query: "subscription { orderPlaced { id order { total { amount } } } }"',
    );
    expect(made.data.webhookCreate.__typename).toBe('WebhookCreateSuccess');
    expect(await printed(['check-documents'], app.env)).toBe('2 webhooks checked: this schema breaks none\n');

    await withDatabase({ databaseUrl: app.env.DATABASE_URL, dataDir: app.env.DATA_DIR ?? '' }, ({ db }) =>
      sql`update fanfare.webhook set document = replace(document, 'amount', 'sum') where description = 'old'`.execute(
        db,
      ),
    );
    const run = startCli(['check-documents'], app.env);
    expect(await run.code).toBe(1);
    expect(run.printed()).toMatch(
      /^BROKEN {6}wh_\w+ of acc_default "old" \(ACTIVE\): Cannot query field "sum" on type "\w+".* \(line 1, column \d+\)\n2 webhooks checked: this schema breaks 1 webhook; deployed, /,
    );
    const json = startCli(['check-documents', '--json'], app.env);
    expect(await json.code).toBe(1);
    expect(JSON.parse(json.printed())).toHaveLength(2);
  });
});

test.each([
  [['check-documents', '--jsn'], 'there is no option --jsn; did you mean "--json"?'],
  [['check-documents', 'all'], 'there is nothing to do with "all"'],
])('fanfare %j is refused', async (args, message) => {
  const run = startCli(args, {});
  expect(await run.code).toBe(2);
  expect(run.said()).toContain(message);
});

test('refuses a new epoch where there is no installation, and makes no folder', async () => {
  const dataDir = join(inject('run').scratchDir, 'no-such-installation');
  const run = startCli(['epoch', 'new'], { DATA_DIR: dataDir });
  expect(await run.code).toBe(1);
  expect(run.said()).toContain(`no embedded database in ${dataDir}`);
});

describe('the banner', () => {
  const key = makeKey();
  const servers = { DATABASE_URL: 'postgres://u:hidden@db/x', SECRETS_KEY: 'ab'.repeat(32) };

  test.each([
    ['embedded', {}, '.fanfare/admin-key', 'survives kill -9 of this process, not loss of power'],
    ['one process on Postgres', { ...servers, ADMIN_API_KEY: key }, undefined, 'works alone on its database'],
    ['many processes', { ...servers, REDIS_URL: 'redis://r', HOST: '::' }, undefined, 'Redis only speeds up delivery'],
    [
      'one role',
      { ...servers, REDIS_URL: 'redis://r', ROLES: 'relay' },
      undefined,
      'serves relay on http://127.0.0.1:4000',
    ],
  ])(
    '%s: fits a screen, says what holds, and shows no secret but the key that it made',
    (_name, env, adminKeyFile, promise) => {
      const banner = bannerText({ config: config(env), port: 4000, adminKeyFile, adminKey: key });
      const lines = banner.split('\n');
      expect(lines.length).toBeLessThanOrEqual(24);
      expect(lines.filter((line) => line.length > 100 && !line.startsWith('  npx fanfare ask'))).toEqual([]);
      expect(banner).toContain(promise);
      expect(banner.includes(key)).toBe(adminKeyFile !== undefined);
      expect(banner).not.toContain('hidden');
    },
  );

  test('says where callbacks may go', () => {
    const facts = { port: 4000, adminKeyFile: undefined, adminKey: key };
    const shown = (env: Record<string, string>) => bannerText({ ...facts, config: config(env) });
    expect(shown({})).toContain('(WEBHOOK_ALLOW_CIDRS is unset)');
    expect(shown({ WEBHOOK_ALLOW_CIDRS: '' })).toContain('https to public addresses only');
    expect(shown({ WEBHOOK_ALLOW_CIDRS: '10.0.0.0/8' })).toContain('plain http to 10.0.0.0/8 is allowed');
  });

  test('prints a query and a registration that work as they stand', async () => {
    const banner = bannerText({ config: config({}), port: app.app.port, adminKeyFile: undefined, adminKey: app.key });
    const run = async (command: string) => {
      const local = command.replace('npx fanfare', `${process.execPath} ${BIN}`);
      const shell = spawn('sh', ['-c', local], { env: { PATH: process.env.PATH, ADMIN_API_KEY: app.key } });
      return JSON.parse(await text(shell.stdout));
    };
    const [query = '', registration = ''] = banner.split('\n').filter((line) => line.startsWith('  npx fanfare ask'));
    expect(await run(query)).toMatchObject({ data: { head: expect.any(String) } });
    expect(await run(registration)).toMatchObject({
      data: { webhookCreate: { secret: expect.stringMatching(/^whsec_/) } },
    });
  });
});

function config(env: Record<string, string>) {
  return readConfig(env, { describeKeyFault: () => undefined, nearest: () => undefined });
}

async function createProduct({ post }: TestApp, sku: string, stock = 0): Promise<void> {
  const input = { sku, title: 'A thing', price: { amount: '4.50', currency: 'GBP' }, stock };
  const { data } = await post(
    'mutation ($input: ProductCreateInput!) { productCreate(input: $input) { __typename } }',
    { input },
  );
  expect(data.productCreate.__typename).toBe('ProductCreateSuccess');
}
