import { z } from 'zod';
import { createBuilder, type Domain, defineDomain, defineEvent, id, snapshot } from '#engine';
import type { TestApp } from './app.ts';

interface Tables {
  note: { id: string; account_id: string; text: string };
}

/** What the probes have seen. */
export interface Probes {
  /** Executions of an event's selection that asked for `rendered`. */
  renders: number;
  /** What executions that ask for `held` wait for. */
  hold: Promise<void> | undefined;
}

export interface ProbeDomain {
  readonly domain: Domain;
  readonly probes: Probes;
}

/** The message that no client may ever see. */
const INNER_MESSAGE = 'relation "secret_table" does not exist';

/**
 * A domain on the toy domain's table (`toyMigrations`) by which tests look inside: `rendered` counts executions,
 * `notesWrite` writes many events of any size in one change, `boom` fails in each way that a resolver can.
 */
export function createProbeDomain(): ProbeDomain {
  const probes: Probes = { renders: 0, hold: undefined };
  const NoteSnapshot = snapshot('NoteSnapshot', { noteId: id('Note'), text: z.string() });
  const event = (name: string) =>
    defineEvent(name, {
      kind: 'fact',
      version: 1,
      subject: 'Note',
      scope: name === 'note.hidden' ? 'notes:hidden' : 'notes:read',
      payload: { note: NoteSnapshot, tag: id('Note').nullable() },
      related: ['tag'],
    });
  const written = event('note.written');
  const copied = event('note.copied');
  const hidden = event('note.hidden');
  const events = { written, copied, hidden };
  const builder = createBuilder<Tables>().events([written, copied, hidden]);
  const Note = builder.entity('Note', {
    table: 'note',
    scope: 'notes:read',
    description: 'A note.',
    fields: (t) => ({
      text: t.exposeString('text'),
      // resolved when the change is committed and nothing of its answer is sent
      fatal: t.boolean({ resolve: () => process.kill(process.pid, 'SIGKILL') }),
    }),
  });
  for (const each of [written, copied]) {
    builder.objectField(builder.event(each), 'held', (t) =>
      t.boolean({ resolve: async () => (await probes.hold) === undefined }),
    );
    builder.objectField(builder.event(each), 'rendered', (t) =>
      t.int({
        resolve: () => {
          probes.renders++;
          return 1;
        },
      }),
    );
  }
  builder.queryField('boom', (t) =>
    t.string({
      scope: null,
      args: { kind: t.arg.string({ required: true }) },
      resolve: (_root, { kind }) => fail(kind),
    }),
  );
  builder.queryField('wrongInt', (t) => t.int({ scope: null, resolve: () => 2 ** 40 }));
  // values that JSON has no form for: of a type that minds, and of one that does not
  builder.queryField('unwritable', (t) => t.field({ type: 'JSON', scope: null, resolve: () => ({ big: 2n }) }));
  builder.scalarType('Careless' as never, { serialize: (() => 2n) as never });
  builder.queryField('careless', (t) => t.field({ type: 'Careless' as never, scope: null, resolve: () => 1 as never }));
  builder.mutationField('notesWrite', (t) =>
    t.change({
      scope: 'notes:write',
      args: {
        count: t.arg.int({ required: true }),
        size: t.arg.int({ defaultValue: 10 }),
        kind: t.arg.string({ defaultValue: 'written' }),
        tag: t.arg.id(),
        subjectId: t.arg.id(),
      },
      success: { ids: ['ID'] as never },
      run: async (tx, { count, size, kind, tag, subjectId }) => {
        const ids: string[] = [];
        for (let n = 0; n < count; n++) {
          const noteId = subjectId ?? tx.newId('Note');
          ids.push(noteId);
          await tx.emit(events[kind as keyof typeof events], {
            subjectId: noteId,
            payload: { note: { noteId, text: 'x'.repeat(size ?? 10) }, tag: tag ?? null },
          });
        }
        return { ids };
      },
    }),
  );
  builder.mutationField('noteSave', (t) =>
    t.change({
      scope: 'notes:write',
      args: { text: t.arg.string({ required: true }) },
      success: { note: Note },
      run: async (tx, { text }) => {
        const row = { id: tx.newId('Note'), account_id: tx.accountId, text };
        const note = await tx.db.insertInto('note').values(row).returningAll().executeTakeFirstOrThrow();
        await tx.emit(written, { subjectId: note.id, payload: { note: { noteId: note.id, text }, tag: null } });
        return { note };
      },
    }),
  );
  builder.queryField('notes', (t) =>
    t.page(Note, {
      scope: 'notes:read',
      description: 'All notes.',
      query: ({ read, accountId }) => read.selectFrom('note').selectAll().where('account_id', '=', accountId),
    }),
  );
  return { domain: defineDomain({ builder, idPrefixes: { Note: 'note' } }), probes };
}

function fail(kind: string): never {
  if (kind === 'type') throw new TypeError(INNER_MESSAGE);
  if (kind === 'sql') throw Object.assign(new Error(INNER_MESSAGE), { code: '42P01' });
  if (kind === 'text') throw INNER_MESSAGE;
  throw new Error(INNER_MESSAGE);
}

export interface NotesWrite {
  readonly count: number;
  readonly size?: number;
  readonly kind?: 'written' | 'copied' | 'hidden';
  readonly tag?: string;
  readonly subjectId?: string;
}

/** Writes events of the probe domain in one change; gives their subjects and the change's cursor. */
export async function notesWrite(
  { post }: Pick<TestApp, 'post'>,
  variables: NotesWrite,
): Promise<{ readonly ids: readonly string[]; readonly cursor: string }> {
  const answer = await post(
    `mutation ($count: Int!, $size: Int, $kind: String, $tag: ID, $subjectId: ID) {
      notesWrite(count: $count, size: $size, kind: $kind, tag: $tag, subjectId: $subjectId) { ... on NotesWriteSuccess { ids cursor } }
    }`,
    { ...variables },
  );
  if (answer.errors !== undefined) throw new Error(JSON.stringify(answer.errors));
  return answer.data.notesWrite;
}
