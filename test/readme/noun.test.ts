import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { post } from '../support/app.ts';
import { blocksFor } from './blocks.ts';
import { applyDiff } from './diff.ts';
import { checkOut, type Project, startServer } from './project.ts';
import type { Terminal } from './terminal.ts';

// Puts the README's supplier into a copy of the project, word for word, and uses it.

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 }); // each command may take its time on a busy machine

const pages = blocksFor('noun');
const FILES = [
  'migrations/domain/0004_suppliers.ts',
  'schema/supplier/events.ts',
  'schema/supplier/suppliers.ts',
  'schema/supplier/graphql.ts',
];

/** What the pages' snippets leave to the reader. */
const SNIPPETS = [
  {
    page: 'docs/clients.md',
    begins: 'const client = createFanfareClient(',
    before: `import { createFanfareClient } from '#client';
      declare function freshKey(): Promise<string>;
      declare function show(...shown: readonly unknown[]): void;
      declare function giveUp(errors: unknown): void;
      declare const stored: string;`,
    after: 'leave();',
  },
  {
    page: 'docs/clients.md',
    begins: 'const apollo =',
    before: `import { ApolloClient, InMemoryCache } from '@apollo/client';
      import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
      import type { FanfareClient } from '#client';
      declare const client: FanfareClient;`,
    after: 'export { apollo };',
  },
  {
    page: 'docs/clients.md',
    begins: 'const urql =',
    before: `import { createClient, subscriptionExchange } from '@urql/core';
      import type { Sink } from 'graphql-ws';
      import type { FanfareClient } from '#client';
      declare const client: FanfareClient;`,
    after: 'export { urql };',
  },
  {
    page: 'docs/clients.md',
    begins: 'const { events } = await ask(',
    before: `import { ask, type Server } from './typed-client/ask.ts';
      import { PulledOrdersDocument, type WatchedOrdersSubscription } from './typed-client/documents.ts';
      import { type PlacedOrder, watchOrders } from './typed-client/orders.ts';
      import { openReceiver } from './typed-client/receiver.ts';
      declare function show(order: PlacedOrder): void;
      declare const server: Server;
      declare const { after, signal, port, secret }: { after: string; signal: AbortSignal; port: number; secret: string };`,
    after: 'export { events };',
  },
  {
    page: 'docs/cursors.md',
    begins: 'await watch({',
    before: `import { watch } from '#client';
      declare function freshKey(): Promise<string>;
      declare function save(data: unknown, cursor: string): Promise<void>;
      declare function show(state: string): void;
      declare const stored: string | undefined;
      declare const signal: AbortSignal;`,
    after: 'export {};',
  },
  {
    page: 'docs/webhooks.md',
    begins: 'const event = verifyWebhook(',
    before: `import type { IncomingMessage } from 'node:http';
      import { verifyWebhook } from '#receiver';
      declare const request: IncomingMessage;
      declare const rawBytes: Uint8Array;
      declare const secret: string;`,
    after: 'export { event };',
  },
  {
    page: 'docs/webhooks.md',
    begins: 'const receiver = createReceiver<',
    before: `import { createServer } from 'node:http';
      import { createReceiver, type ReplayStore } from '#receiver';
      interface OrderPlaced { order: { number: string } }
      declare function place(order: OrderPlaced): Promise<void>;
      declare const request: Request;
      declare const store: ReplayStore;
      declare const secret: string;`,
    after: 'export { answer };',
  },
];

let project: Project;
let reader: Terminal;

beforeAll(async () => {
  project = await checkOut({ hasData: true });
  await leaveOutTests();
  reader = project.open();
});

afterAll(async () => {
  await reader?.close();
  await rm(project.dir, { recursive: true, force: true });
});

test('is formatted, printed and checked by the commands below it', async () => {
  for (const file of FILES) await write(file, pages.take('README.md', `// ${file}`));
  await applyDiff(project.dir, pages.take('README.md', '--- schema/tables.ts'));
  for (const [at, { page, begins, before, after }] of SNIPPETS.entries()) {
    await write(`examples/snippet-${at}.ts`, `${before}\n${pages.take(page, begins)}${after}\n`);
  }
  const printed = await reader.run(`${pages.take('README.md', 'npm run format').trim()}\necho ended with $?`);
  expect(printed.slice(-2_000)).toContain('ended with 0');
  expect(printed).toContain('wrote schema/documents/supplier.created.graphql');
});

test('is pulled as an event after it was created', async () => {
  const server = await startServer(project);
  const key = await readFile(join(project.dir, '.fanfare/admin-key'), 'utf8');
  const ask = (query: string) => post({ url: `http://127.0.0.1:${project.port}/graphql`, key: key.trim() }, { query });
  const created = JSON.parse(await reader.run(pages.take('README.md', "npx fanfare ask 'mutation { supplierCreate")));
  const { supplier, cursor } = created.data.supplierCreate;
  expect(supplier).toEqual({ id: expect.stringMatching(/^sup_/) });
  const { data } = await ask(`{ events(filter: { types: [SUPPLIER_CREATED] }) { nodes {
    name subjectId cursor ... on SupplierCreated { supplier { supplierId name } } } } head }`);
  expect(data.events.nodes).toEqual([
    {
      name: 'supplier.created',
      subjectId: supplier.id,
      cursor: data.head,
      supplier: { supplierId: supplier.id, name: 'Teas & Co' },
    },
  ]);
  expect(cursor).toEqual(expect.any(String));
  await server.close();
});

test('has used all its blocks', () => {
  expect(pages.untaken()).toEqual([]);
});

/** Their types have nothing to do with the noun, and are checked where they belong. */
async function leaveOutTests(): Promise<void> {
  const file = join(project.dir, 'tsconfig.json');
  await writeFile(file, (await readFile(file, 'utf8')).replace('"test", "bench", ', ''));
}

async function write(path: string, text: string): Promise<void> {
  const file = join(project.dir, path);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, text);
}
