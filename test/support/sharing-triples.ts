import fc from 'fast-check';
import { parse } from 'graphql';
import type { Domain } from '../../src/domain.ts';
import type { EngineServices } from '../../src/graphql/context.ts';
import { readSubscription } from '../../src/graphql/execute-event.ts';
import { completeSchema } from '../../src/main/schema.ts';
import { filterPredicate } from '../../src/outbox/filter.ts';
import { readEvents } from '../../src/outbox/read.ts';
import type { ApiUser } from './api-user.ts';
import type { GraphqlAnswer } from './app.ts';

/** A user with the scopes that its key has. */
export interface ScopedUser extends ApiUser {
  readonly scopes: readonly string[];
}

/** Who asks what, over which transport. */
export interface Triple {
  readonly document: string;
  readonly variables: Readonly<Record<string, unknown>>;
  /** Index of a user. */
  readonly user: number;
  readonly transport: 'ws' | 'sse';
}

export const TAGS = ['note_a', 'note_b', 'note_c'];

const FIELDS = ['__typename', 'id', 'position', 'cursor', 'type', 'subjectId', 'subjectVersion', 'actor'];
const NOTE = 'note { noteId text @include(if: $text) }';
const FRAGMENTS = ['NoteWritten', 'NoteCopied', 'NoteHidden'].map((type) => `... on ${type} { ${NOTE} tag }`);

const selection = fc
  .tuple(fc.subarray(FIELDS, { minLength: 1 }), fc.subarray(FRAGMENTS), fc.constantFrom('', ' x: name'))
  .map(([fields, fragments, alias]) => ({
    fields: `${fields.join(' ')}${alias} occurredAt @include(if: $text)`,
    fragments: fragments.join(' '),
  }));

const document = fc
  .tuple(fc.constantFrom('events', 'e: events', 'noteWritten', 'noteCopied', 'noteHidden'), selection)
  .map(([root, { fields, fragments }]) =>
    root.endsWith('events')
      ? `subscription ($tags: [ID!], $text: Boolean!) { ${root}(filter: { related: $tags }) { ${fields} ${fragments} } }`
      : `subscription ($text: Boolean!) { ${root} { ${fields} ${NOTE} } }`,
  );

/** Triples out of a few documents and users, so that many of them have something in common. */
export function triples(count: number, users: number): fc.Arbitrary<readonly Triple[]> {
  const variables = { tags: fc.option(fc.subarray(TAGS), { nil: null }), text: fc.boolean() };
  const triple = (documents: readonly string[]) =>
    fc
      .record({
        document: fc.constantFrom(...documents),
        tags: variables.tags,
        text: variables.text,
        user: fc.nat(users - 1),
        transport: fc.constantFrom('ws' as const, 'ws' as const, 'sse' as const),
      })
      .map(({ tags, text, ...each }) => ({
        ...each,
        variables: each.document.includes('$tags') ? { tags, text } : { text },
      }));
  return fc
    .array(document, { minLength: 5, maxLength: 5 })
    .chain((documents) => fc.array(triple(documents), { minLength: count, maxLength: count }));
}

/** What a triple gets that stands alone: results in order, or the code by which it is refused. */
export type Expected = { readonly results: readonly GraphqlAnswer[] } | { readonly code: string };

/** Runs a triple's document for its principal on events of the log, by itself. */
export async function executeAlone(
  { engine, domain }: { readonly engine: EngineServices; readonly domain: Domain },
  triple: Triple,
  { user, after }: { readonly user: ScopedUser; readonly after: number },
): Promise<Expected> {
  const { accountId, scopes, id } = user;
  const principal = { id, accountId, scopes: new Set(scopes), narrowing: [], expiresAt: undefined };
  const source = { schema: completeSchema(domain), document: parse(triple.document), variables: triple.variables };
  try {
    const stream = readSubscription(source, principal, engine);
    const passes = filterPredicate([stream.filter, ...engine.registry.visibleTo(principal)]);
    const events = await readEvents(engine.database.db, { accountId, filters: [], after, limit: 1_000 });
    const results = [];
    for (const event of events.filter(passes)) {
      const cursor = engine.cursors.encode(accountId, { kind: 'position', position: event.position });
      const result = await stream.execute({ engine, principal, event });
      results.push(JSON.parse(JSON.stringify({ ...result, extensions: { cursor } })) as GraphqlAnswer);
    }
    return { results };
  } catch (error) {
    return { code: String((error as { readonly code?: unknown }).code) };
  }
}
