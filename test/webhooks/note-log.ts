import { sql } from 'kysely';
import type { EngineServices } from '../../src/graphql/context.ts';
import { createSequencer } from '../../src/outbox/sequencer.ts';
import { observeNothing } from '../../src/runtime/observe.ts';
import type { WebhookEngine } from './webhook-engine.ts';

/** A note to be written. */
export interface NewNote {
  readonly subjectId: string;
  readonly text: string;
}

/** Writes notes in bulk, as another program would, and is the one that gives them their order. */
export interface NoteLog {
  /** In one transaction; resolves when they have their positions, with their ids in the order given. */
  write(accountId: string, notes: readonly NewNote[]): Promise<readonly string[]>;
  close(): Promise<void>;
}

/** An engine, and the one log by which its events are written: two would take each other's shards away. */
export interface Written {
  readonly engine: WebhookEngine;
  readonly log: NoteLog;
}

/** Close it before the engine. */
export function openNoteLog({ database, catalog }: EngineServices): NoteLog {
  const deps = { database, catalog, publish: async () => {}, observe: observeNothing };
  const sequencer = createSequencer({ ...deps, owner: 'note log', steal: true });
  return {
    async write(accountId, notes) {
      const ids = await emitAll(accountId, notes);
      await sequencer.keepLeases();
      while ((await sequencer.stampBatch()) === 'more');
      return ids;
    },
    close: () => sequencer.release(),
  };

  async function emitAll(accountId: string, notes: readonly NewNote[]): Promise<readonly string[]> {
    const { rows } = await sql<{ id: string }>`
      select fanfare.emit(${accountId}, 'note.written', n.subject,
        jsonb_build_object('note', jsonb_build_object('noteId', n.subject, 'text', n.text))) as id
      from unnest(${notes.map(({ subjectId }) => subjectId)}::text[], ${notes.map(({ text }) => text)}::text[])
        with ordinality as n (subject, text, rank)
      order by n.rank
    `.execute(database.db);
    return rows.map(({ id }) => id);
  }
}
