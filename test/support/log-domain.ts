import { z } from 'zod';
import { createCatalog } from '../../src/outbox/catalog.ts';
import { defineEvent } from '../../src/outbox/event.ts';
import { id, snapshot } from '../../src/outbox/payload.ts';

/** A fact with nested ids, some of them inside a list. */
export const noteWritten = defineEvent('note.written', {
  kind: 'fact',
  version: 1,
  subject: 'Note',
  scope: 'notes:read',
  payload: {
    text: z.string(),
    author: snapshot('AuthorSnapshot', { userId: id('User') }).nullable(),
    mentions: z.array(snapshot('MentionSnapshot', { userId: id('User') })),
  },
  related: ['author.userId', 'mentions.userId'],
});

/** An update: it names what changed, or emits nothing. */
export const noteEdited = defineEvent('note.edited', {
  kind: 'update',
  version: 1,
  subject: 'Note',
  scope: 'notes:read',
  payload: { text: z.string() },
  related: [],
});

/** Its payload has changed twice since it was first declared. */
export const notePinned = defineEvent('note.pinned', {
  kind: 'fact',
  version: 3,
  subject: 'Note',
  scope: 'notes:read',
  payload: { pins: z.int32(), reason: z.string() },
  related: [],
  upcast: {
    1: ({ pinned }) => ({ pins: pinned === true ? 1 : 0 }),
    2: (second) => ({ ...second, reason: 'none given' }),
  },
});

/** The events of the tests of the log. */
export const logCatalog = createCatalog([noteWritten, noteEdited, notePinned]);

/** A payload of `note.written`. */
export function written(text: string, mentions: readonly string[] = []) {
  return { text, author: null, mentions: mentions.map((userId) => ({ userId })) };
}
