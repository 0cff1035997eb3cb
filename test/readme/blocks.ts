import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** A fenced block of a page. */
export interface Block {
  readonly page: string;
  readonly language: string;
  readonly text: string;
}

/** Who proves a block: a test beside this file, or nobody, for the reason given. */
type Proof = 'commands' | 'cluster' | 'noun' | 'documents' | { readonly unproven: string };

interface KnownBlock {
  readonly page: string;
  /** How it begins, and no other block of the page. */
  readonly begins: string;
  readonly proof: Proof;
}

/** The repository's root. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export const PAGES = [
  'README.md',
  ...['clients', 'consumers', 'cursors', 'errors', 'operations', 'webhooks'].map((name) => `docs/${name}.md`),
];

/** Every block of every page. One that is not listed, and one that is gone, fails documents.test.ts. */
export const KNOWN_BLOCKS: readonly KnownBlock[] = [
  ...known('README.md', { unproven: 'it installs the packages and runs these tests: .ci/run does' }, [
    'npm ci && npm start',
  ]),
  ...known('README.md', { unproven: 'a picture' }, ['HTTP ─┐']),
  ...known('README.md', 'commands', [
    'npx fanfare watch ',
    `npx fanfare ask 'mutation { productCreate(input: { sku: "TEA-1"`,
    `npx fanfare ask '{ head`,
    'ANSWER=',
    'node examples/receiver-node.mjs &',
    `npx fanfare ask 'mutation { productCreate(input: { sku: "TEA-2"`,
    'npm run tour',
  ]),
  ...known('README.md', 'documents', ['// Receives callbacks', '# Receives callbacks']),
  ...known('README.md', 'cluster', ['export DATABASE_URL', 'export SECRETS_KEY', 'grant usage']),
  ...known('README.md', 'noun', [
    '// migrations/domain/0004_suppliers.ts',
    '// schema/supplier/events.ts',
    '// schema/supplier/suppliers.ts',
    '// schema/supplier/graphql.ts',
    '--- schema/tables.ts',
    'npm run format',
    "npx fanfare ask 'mutation { supplierCreate",
  ]),
  ...known('docs/clients.md', 'commands', ['node examples']),
  ...known('docs/clients.md', 'noun', [
    'const client = createFanfareClient(',
    'const apollo =',
    'const urql =',
    'const { events } = await ask(',
  ]),
  ...known('docs/consumers.md', 'commands', [
    "npx fanfare ask 'mutation { consumerCreate",
    'node examples/consumer-node.mjs',
  ]),
  ...known('docs/cursors.md', 'documents', ['query { head']),
  ...known('docs/cursors.md', 'noun', ['await watch({']),
  ...known('docs/errors.md', { unproven: 'the ping that live/token-refresh.test.ts sends' }, ['{ "type": "ping"']),
  ...known('docs/operations.md', 'commands', ['npx fanfare epoch new']),
  ...known('docs/webhooks.md', 'documents', ['mutation ($input: WebhookCreateInput!)', 'mutation ($url: String!)']),
  ...known('docs/webhooks.md', 'commands', ['npm run check:documents']),
  ...known('docs/webhooks.md', { unproven: 'cli-listen.test.ts runs it against a receiver of its own' }, [
    'npx fanfare listen',
  ]),
  ...known('docs/webhooks.md', 'noun', ['const event = verifyWebhook(', 'const receiver = createReceiver<']),
];

function known(page: string, proof: Proof, beginnings: readonly string[]): readonly KnownBlock[] {
  return beginnings.map((begins) => ({ page, begins, proof }));
}

/** The blocks of one page, in order. */
export function readBlocks(page: string, text = readFileSync(`${ROOT}/${page}`, 'utf8')): readonly Block[] {
  const fences = text.matchAll(/^```(\w*)\n(.*?)^```$/gms);
  return [...fences].map(([, language = '', body = '']) => ({ page, language, text: body }));
}

/** What is wrong with the blocks of a page: those that the list does not know, and those of the list that it lacks. */
export function strayBlocks(page: string, blocks: readonly Block[]): readonly string[] {
  const known = KNOWN_BLOCKS.filter((each) => each.page === page).map(({ begins }) => begins);
  const unknown = blocks.filter(({ text }) => known.filter((begins) => text.startsWith(begins)).length !== 1);
  const gone = known.filter((begins) => blocks.filter(({ text }) => text.startsWith(begins)).length !== 1);
  return [
    ...unknown.map(({ text }) => `${page}: no test runs the block "${text.split('\n', 1)[0]}"; add it to KNOWN_BLOCKS`),
    ...gone.map((begins) => `${page}: expected one block that begins "${begins}"`),
  ];
}

/** What one test takes out of the pages. */
export interface TakenBlocks {
  /** The text of the block that begins so. */
  take(page: string, begins: string): string;
  /** What the list above gives to this test and it has not taken. */
  untaken(): readonly string[];
}

/** @throws Error from `take` for a block that the list does not give to this test */
export function blocksFor(test: Proof): TakenBlocks {
  const given = KNOWN_BLOCKS.filter(({ proof }) => proof === test);
  const left = new Set(given);
  return {
    take(page, begins) {
      const entry = given.find((each) => each.page === page && each.begins === begins);
      const block = readBlocks(page).find(({ text }) => text.startsWith(begins));
      if (entry === undefined || block === undefined) throw new Error(`${page} has no block "${begins}" for this test`);
      left.delete(entry);
      return block.text;
    },
    untaken: () => [...left].map(({ page, begins }) => `${page}: ${begins}`),
  };
}
