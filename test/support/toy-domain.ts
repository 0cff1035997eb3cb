import { z } from 'zod';
import {
  createBuilder,
  decimal,
  defineDomain,
  defineEvent,
  enumType,
  id,
  Refusal,
  snapshot,
  type Tx,
  VersionConflict,
} from '#engine';
import { addConsumerFields } from '../../src/consumers/graphql.ts';
import { addWebhookFields } from '../../src/webhooks/graphql.ts';
import { addTroubles } from './toy-troubles.ts';

/** Rows of the toy domain's one table. */
export interface Tables {
  note: { id: string; account_id: string; text: string };
}

class NoteTooLong extends Refusal {
  static override readonly code = 'NOTE_TOO_LONG';
  readonly length: number;
  constructor(length: number) {
    super(`expected at most 1000 characters, found ${length}; shorten the note`);
    this.length = length;
  }
}

const NoteSnapshot = snapshot('NoteSnapshot', { noteId: id('Note'), text: z.string() });
const Mood = enumType('Mood', ['CALM', 'LOUD']);
const Attachment = snapshot('Attachment', { name: z.string(), size: z.int32(), price: decimal().nullable() });

export const noteWritten = defineEvent('note.written', {
  kind: 'fact',
  version: 1,
  subject: 'Note',
  scope: 'notes:read',
  payload: { note: NoteSnapshot },
  related: [],
});

export const noteEdited = defineEvent('note.edited', {
  kind: 'update',
  version: 2,
  subject: 'Note',
  scope: 'notes:read',
  payload: {
    note: NoteSnapshot,
    mood: Mood.nullable(),
    attachments: z.array(Attachment),
    editedAt: z.iso.datetime(),
    score: z.number(),
    extra: z.json().nullable(),
    mentions: z.array(id('Note')),
  },
  related: ['mentions'],
  upcast: { 1: (v1) => ({ ...v1, extra: null, mentions: [] }) },
  description: 'A note got another text.',
});

const builder = createBuilder<Tables>().events([noteWritten, noteEdited]);

const Note = builder.entity('Note', {
  table: 'note',
  scope: 'notes:read',
  description: 'A note.',
  fields: (t) => ({ text: t.exposeString('text') }),
});
builder.objectField(builder.event(noteWritten), 'currentNote', (t) =>
  t.entity(Note, { description: 'Current state: the note as it is when asked.' }),
);
builder.refusal(NoteTooLong, { fields: (t) => ({ length: t.exposeInt('length') }) });
builder.queryField('note', (t) =>
  t.field({
    type: Note,
    nullable: true,
    scope: 'notes:read',
    args: { id: t.arg.id({ required: true }) },
    resolve: async (_root, args, { read, accountId }) =>
      (await read
        .selectFrom('note')
        .selectAll()
        .where('account_id', '=', accountId)
        .where('id', '=', args.id)
        .executeTakeFirst()) ?? null,
  }),
);
builder.queryField('notes', (t) =>
  t.page(Note, {
    scope: 'notes:read',
    description: 'All notes, oldest first.',
    query: ({ read, accountId }) => read.selectFrom('note').selectAll().where('account_id', '=', accountId),
  }),
);
builder.mutationField('noteWrite', (t) =>
  t.change({
    scope: 'notes:write',
    args: { text: t.arg.string({ required: true }) },
    success: { note: Note },
    refusals: [NoteTooLong],
    run: (tx, { text }) => writeNote(tx, text),
  }),
);
builder.mutationField('noteEdit', (t) =>
  t.change({
    scope: 'notes:write',
    args: {
      id: t.arg.id({ required: true }),
      text: t.arg.string({ required: true }),
      expectedVersion: t.arg.int(),
    },
    success: { note: Note, length: 'Int' },
    refusals: [NoteTooLong, VersionConflict],
    run: (tx, args) => editNote(tx, args),
  }),
);

/** The contract of DESIGN.md by example: the smallest domain that uses all of it. */
export const domain = defineDomain({ builder, idPrefixes: { Note: 'note' } });

// all that any test asks of it, whichever has it built: files may share a process
domain.extend(addWebhookFields);
domain.extend(addConsumerFields);
domain.extend((engine) => addTroubles(engine, noteWritten));

/** Where its tables are made. */
export const toyMigrations = new URL('./toy-migrations/', import.meta.url);

export async function writeNote(tx: Tx<Tables>, text: string) {
  if (text.length > 1_000) throw new NoteTooLong(text.length);
  const note = await tx.db
    .insertInto('note')
    .values({ id: tx.newId('Note'), account_id: tx.accountId, text })
    .returningAll()
    .executeTakeFirstOrThrow();
  await tx.emit(noteWritten, { subjectId: note.id, payload: { note: { noteId: note.id, text } } });
  return { note };
}

interface NoteEdit {
  readonly id: string;
  readonly text: string;
  readonly expectedVersion?: number | null | undefined;
}

export async function editNote(tx: Tx<Tables>, { id: noteId, text, expectedVersion }: NoteEdit) {
  if (text.length > 1_000) throw new NoteTooLong(text.length);
  await tx.expectVersion('Note', noteId, expectedVersion);
  const before = await tx.lockRow('note', noteId);
  const note = await tx.db
    .updateTable('note')
    .set({ text })
    .where('account_id', '=', tx.accountId)
    .where('id', '=', noteId)
    .returningAll()
    .executeTakeFirstOrThrow();
  await tx.emit(noteEdited, {
    subjectId: noteId,
    changed: before.text === text ? [] : ['text'],
    payload: {
      note: { noteId, text },
      mood: null,
      attachments: [{ name: 'a', size: 1, price: '1.50' }],
      editedAt: new Date().toISOString(),
      score: 0.5,
      extra: { any: ['thing'] },
      mentions: [],
    },
  });
  return { note, length: text.length };
}
