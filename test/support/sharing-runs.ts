import fc from 'fast-check';
import { expect } from 'vitest';
import { connectPostgres } from '../../src/database/connect.ts';
import { createCursorCodec } from '../../src/outbox/cursor.ts';
import { createAccountUser, createUser } from './api-user.ts';
import { type GraphqlAnswer, startApp, type TestApp } from './app.ts';
import { positionOfCursor } from './cursor-position.ts';
import { createEngineServices } from './engine.ts';
import { eventually } from './eventually.ts';
import { collect, openSse, stockClient } from './live-client.ts';
import { createProbeDomain, notesWrite } from './probe-domain.ts';
import { type Expected, executeAlone, type ScopedUser, TAGS, type Triple, triples } from './sharing-triples.ts';
import { toyMigrations } from './toy-domain.ts';

const WRITE = ['events:read', 'notes:write'];
const SCOPES = [['notes:read', 'notes:hidden'], ['notes:read'], ['notes:hidden'], []].map((more) => [
  ...WRITE,
  ...more,
]);
const ACCOUNTS = 3;
/** Open at once in one run. */
const TRIPLES = 60;

export interface SharingRuns {
  /** @throws what a triple got that it would not have got alone */
  check(tripleCount: number): Promise<void>;
  /** Pairs of triples that a key of document and variables alone would have put together, with unequal results. */
  countLeaks(): number;
  stop(): Promise<void>;
}

/** A server with users of some accounts and scopes, and what each subscription gives by itself. */
export async function openSharingRuns(): Promise<SharingRuns> {
  const { domain } = createProbeDomain();
  const app = await startApp({ backend: 'postgres', domain, domainMigrations: toyMigrations, checkpointMs: 20 });
  const users = await createUsers(app);
  const clients = users.map(({ key }) => stockClient(app.wsUrl, key, { lazy: false, keepAlive: 0 }));
  const database = await connectPostgres({ url: app.env.DATABASE_URL ?? '', maxConnections: 2 });
  const { epoch } = await database.db.selectFrom('fanfare.installation').select('epoch').executeTakeFirstOrThrow();
  const secret = Buffer.from(app.env.SECRETS_KEY ?? '', 'hex');
  const engine = { ...(await createEngineServices(database, domain)), cursors: createCursorCodec({ secret }, epoch) };
  let leaks = 0;

  async function runOnce(all: readonly Triple[]): Promise<void> {
    const heads = await headsOf(users);
    const streams = await Promise.all(
      all.map((triple) => openStream(app, triple, { user: at(users, triple.user), client: at(clients, triple.user) })),
    );
    const caughtUp = () => streams.every(({ code, results }) => code() !== undefined || results().length > 0);
    await eventually(caughtUp, { describe: 'all streams to be live or refused' });
    await writeEvents(users);
    const ends = await headsOf(users);
    const expected = [];
    for (const triple of all) {
      const user = at(users, triple.user);
      expected.push(await executeAlone({ engine, domain }, triple, { user, after: at(heads, triple.user) }));
    }
    const isThrough = ({ code, results }: Stream, index: number) =>
      code() !== undefined || placeOf(results().at(-1)) === at(ends, at(all, index).user);
    await eventually(() => streams.every(isThrough), { describe: 'all streams to reach the head' });
    for (const [index, triple] of all.entries())
      requireEqual(triple, { got: at(streams, index), alone: at(expected, index), user: at(users, triple.user) });
    leaks += countMixed(all, expected);
    for (const stream of streams) stream.end();
  }

  return {
    check: (tripleCount) =>
      fc.assert(fc.asyncProperty(triples(TRIPLES, users.length), runOnce), {
        numRuns: Math.ceil(tripleCount / TRIPLES),
        endOnFailure: true,
      }),
    countLeaks: () => leaks,
    async stop() {
      await Promise.all(clients.map((client) => client.dispose()));
      await database.close();
      await app.stop();
    },
  };
}

async function createUsers(app: TestApp): Promise<ScopedUser[]> {
  const users: ScopedUser[] = [];
  for (let account = 0; account < ACCOUNTS; account++) {
    const first = await createAccountUser(app, { scopes: at(SCOPES, 0) });
    users.push({ ...first, scopes: at(SCOPES, 0) });
    for (const scopes of SCOPES.slice(1))
      users.push({ ...(await createUser(app, { scopes, accountId: first.accountId })), scopes });
  }
  return users;
}

/** One event of each kind for some tags in each account, each with its account's and its kind's canary. */
async function writeEvents(users: readonly ScopedUser[]): Promise<void> {
  for (const user of users.filter((_, index) => index % SCOPES.length === 0))
    for (const [index, kind] of (['written', 'copied', 'hidden', 'written'] as const).entries())
      await notesWrite(user, { count: 1, kind, tag: at(TAGS, index % 3), subjectId: canary(user, kind) });
}

const canary = ({ accountId }: ScopedUser, kind: string) => `note_${accountId.slice(4)}${kind}`;

async function headsOf(users: readonly ScopedUser[]): Promise<number[]> {
  const heads = new Map<string, number>();
  for (const user of users) {
    if (heads.has(user.accountId)) continue;
    // the newest change's cursor waits for its stamp
    const { cursor } = await notesWrite(user, { count: 1 });
    await user.post('query ($c: String) { events(after: $c, first: 1) { nodes { id } } }', { c: cursor });
    heads.set(user.accountId, positionOfCursor((await user.post('{ head }')).data.head));
  }
  return users.map(({ accountId }) => heads.get(accountId) ?? 0);
}

interface Stream {
  results(): readonly GraphqlAnswer[];
  /** Of the refusal. */
  code(): string | undefined;
  end(): void;
}

interface StreamAnswer extends GraphqlAnswer {
  readonly extensions?: { readonly cursor: string };
}

const placeOf = (result: StreamAnswer | undefined) => positionOfCursor(result?.extensions?.cursor);

async function openStream(
  app: TestApp,
  { document, variables, transport }: Triple,
  { user, client }: { readonly user: ScopedUser; readonly client: ReturnType<typeof stockClient> },
): Promise<Stream> {
  const extensions = { checkpoints: true };
  if (transport === 'ws') {
    const collected = collect(client, document, variables, extensions);
    const code = () => (collected.error as { extensions: { code: string } }[] | undefined)?.[0]?.extensions.code;
    return { results: () => collected.results, code, end: collected.unsubscribe };
  }
  const sse = await openSse(app.url, { key: user.key, query: document, variables, extensions });
  if (sse.status !== 200) await sse.ended;
  const code = () => (sse.status === 200 ? undefined : JSON.parse(sse.text()).errors[0].extensions.code);
  return { results: () => sse.results(), code, end: () => sse.end() };
}

interface Comparison {
  readonly got: Stream;
  readonly alone: Expected;
  readonly user: ScopedUser;
}

function requireEqual(triple: Triple, { got, alone, user }: Comparison): void {
  if ('code' in alone) {
    expect(got.code(), triple.document).toBe(alone.code);
    return;
  }
  const results = got.results().filter(({ data }) => data !== undefined);
  // what was written before the streams were open is not theirs
  expect(results, `${triple.document} ${JSON.stringify(triple.variables)}`).toEqual(alone.results);
  const text = JSON.stringify(results);
  const own = user.accountId.slice(4);
  for (const [id] of text.matchAll(/note_\w+?(written|copied|hidden)/g)) expect(id.includes(own)).toBe(true);
  if (!user.scopes.includes('notes:hidden')) expect(text).not.toContain('hidden');
  if (!user.scopes.includes('notes:read')) expect(text).not.toMatch(/written"|copied"/);
}

/** Triples of equal document and variables whose results are not: one key for both would have shown one the other's. */
function countMixed(all: readonly Triple[], expected: readonly Expected[]): number {
  const first = new Map<string, string>();
  let mixed = 0;
  for (const [index, { document, variables }] of all.entries()) {
    const alone = at(expected, index);
    if ('code' in alone) continue;
    const naiveKey = JSON.stringify([document, variables]);
    const text = JSON.stringify(alone.results);
    if ((first.get(naiveKey) ?? text) !== text) mixed++;
    else first.set(naiveKey, text);
  }
  return mixed;
}

function at<Item>(items: readonly Item[], index: number): Item {
  const item = items[index];
  if (item === undefined) throw new Error(`there is no item ${index}`);
  return item;
}
