import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createCatalog } from '../../src/outbox/catalog.ts';
import type { EventDefinition } from '../../src/outbox/event.ts';
import { readEvents } from '../../src/outbox/read.ts';
import { createSequencer } from '../../src/outbox/sequencer.ts';
import type { Observation } from '../../src/runtime/observe.ts';
import { BACKENDS, type LogDatabase, openLog } from '../support/log-database.ts';
import { logCatalog, noteWritten, written } from '../support/log-domain.ts';

/** What a program of before the deploy declares. */
const olderCatalog = createCatalog([noteWritten] as unknown as EventDefinition[]);

describe.each(BACKENDS)('a deploy on %s, with an older sequencer beside a newer', (kind) => {
  let log: LogDatabase;
  const observed: Observation[] = [];
  beforeEach(async () => {
    log = await openLog(kind);
  });
  afterEach(() => log.close());

  const sequencer = (owner: string, catalog: typeof logCatalog) =>
    createSequencer({
      database: log.database,
      catalog,
      owner,
      publish: async () => {},
      observe: (observation) => void observed.push(observation),
    });
  const positions = async () => {
    const events = await readEvents(log.database.db, { accountId: 'acc_default', filters: [], after: 0, limit: 10 });
    return events.map(({ position, name }) => [position, name]);
  };

  it('leaves an event that only the newer knows to it, parks nothing and keeps the order', async () => {
    await log.emit('acc_default', 'note.written', 'a', written('1'));
    await log.emit('acc_default', 'note.pinned', 'a', { pinned: true }, null, 1);
    await log.emit('acc_default', 'note.written', 'b', written('2'));
    const older = sequencer('older', olderCatalog);
    await older.keepLeases();
    await older.stampBatch();
    expect(observed).toContainEqual(expect.objectContaining({ name: 'relay.gave_up', events: ['note.pinned'] }));
    await older.keepLeases();
    await older.stampBatch();
    const newer = sequencer('newer', logCatalog);
    await newer.keepLeases();
    await newer.stampBatch();
    expect(await positions()).toEqual([
      [1, 'note.written'],
      [2, 'note.pinned'],
      [3, 'note.written'],
    ]);
    expect(await log.database.db.selectFrom('fanfare.parked').selectAll().execute()).toEqual([]);
  });

  it('stamps and parks what a call wrote that had begun before the outbox named account and time', async () => {
    const newer = sequencer('newer', logCatalog);
    await newer.keepLeases();
    await log.emit('acc_default', 'note.written', 'a', written('1'));
    await log.emit('acc_default', 'note.written', 'b', { wrong: true });
    await log.emit('acc_default', 'note.written', 'c', written('3'));
    const sparse = { account_id: null, occurred_at: null };
    const { numUpdatedRows } = await log.database.db
      .updateTable('fanfare.outbox')
      .set(sparse)
      .executeTakeFirstOrThrow();
    expect(numUpdatedRows).toBe(3n);
    await newer.stampBatch();
    expect(await positions()).toEqual([
      [1, 'note.written'],
      [2, 'note.written'],
    ]);
    const parked = await log.database.db.selectFrom('fanfare.parked').selectAll().execute();
    expect(parked).toMatchObject([{ account_id: 'acc_default', name: 'note.written', position: 1 }]);
  });
});
