import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readPages } from '../../src/live/pages.ts';
import { createCursorCodec } from '../../src/outbox/cursor.ts';
import { readEventPage } from '../../src/outbox/read.ts';
import { authorOf, BACKENDS, type LogDatabase, openLog } from '../support/log-database.ts';
import { noteWritten, written } from '../support/log-domain.ts';
import { stampAll } from '../support/log-sequencer.ts';

const cursors = createCursorCodec({ secret: Buffer.from('secret') }, '0123456789abcdef');

describe.each(BACKENDS)('a page of the log on %s', (kind) => {
  let log: LogDatabase;
  let accountId: string;
  beforeEach(async () => {
    log = await openLog(kind);
    accountId = await log.addAccount();
    const sizes = [...Array.from({ length: 120 }, () => 10), ...Array.from({ length: 6 }, () => 100_000), 10];
    await log.transact(authorOf(accountId), async (tx) => {
      for (const [at, size] of sizes.entries())
        await tx.emit(noteWritten, { subjectId: `note_${at % 2}`, payload: written('x'.repeat(size)) });
    });
    await stampAll(log.database);
  });
  afterEach(() => log.close());

  it('ends with the event that reaches its bytes, and says whether more lies behind', async () => {
    const read = async (after: number, maxBytes: number, limit = 500) => {
      const request = { accountId, filters: [], after, before: 128, limit, maxBytes };
      const { events, isLast } = await readEventPage(log.database.db, request);
      return { from: events[0]?.position, to: events.at(-1)?.position, isLast };
    };
    expect(await read(0, 1_000_000)).toEqual({ from: 1, to: 127, isLast: true });
    expect(await read(0, 1_000_000, 50)).toEqual({ from: 1, to: 50, isLast: false });
    expect(await read(118, 150_000)).toEqual({ from: 119, to: 122, isLast: false });
    expect(await read(120, 1)).toEqual({ from: 121, to: 121, isLast: false });
    expect(await read(127, 1)).toEqual({ from: undefined, to: undefined, isLast: true });
  });

  it('is followed by others until all is read, filtered or not', async () => {
    const read = async (filters: readonly { readonly subjects: readonly string[] }[], upTo: number) => {
      const pages = [];
      const request = { accountId, filters, after: 0, upTo };
      for await (const page of readPages({ database: log.database, cursors }, request)) pages.push(page);
      return { upTo: pages.at(-1)?.upTo, count: pages.length, events: pages.flatMap(({ events }) => events) };
    };
    const all = await read([], 127);
    expect(all.events.map(({ position }) => position)).toEqual(Array.from({ length: 127 }, (_, at) => at + 1));
    // 100 at first, then by their bytes: three large ones reach 256 KiB
    expect([all.upTo, all.count]).toEqual([127, 4]);
    const half = await read([{ subjects: ['note_1'] }], 126);
    expect([half.upTo, half.events.length]).toEqual([126, 63]);
    expect((await read([{ subjects: ['nobody'] }], 127)).upTo).toBe(127);
  });
});
