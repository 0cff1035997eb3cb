import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createCursorCodec } from '../../src/outbox/cursor.ts';
import { resolveCursor, STAMP_WAIT_MS } from '../../src/outbox/place.ts';
import type { Clock } from '../../src/runtime/clock.ts';
import { newId } from '../../src/runtime/id.ts';
import { authorOf, BACKENDS, type LogDatabase, openLog } from '../support/log-database.ts';
import { noteWritten, written } from '../support/log-domain.ts';
import { stampAll } from '../support/log-sequencer.ts';

const secret = Buffer.from('the bytes of SECRETS_KEY');
const cursors = createCursorCodec({ secret }, '0123456789abcdef');
const places = fc.oneof(
  fc.record({ kind: fc.constant('position' as const), position: fc.nat({ max: Number.MAX_SAFE_INTEGER }) }),
  fc.record({ kind: fc.constant('commit' as const), eventId: fc.constant('').map(() => newId('evt')) }),
);

describe('a cursor', () => {
  it('gives back the place that it was made for', () => {
    fc.assert(
      fc.property(places, (place) => {
        expect(cursors.decode('acc_a', cursors.encode('acc_a', place))).toEqual(place);
      }),
    );
  });

  it('is refused with any bit changed, cut or lengthened', () => {
    fc.assert(
      fc.property(places, fc.nat(), fc.nat({ max: 7 }), (place, at, bit) => {
        const cursor = cursors.encode('acc_a', place);
        const bytes = Buffer.from(cursor, 'base64url');
        const index = at % bytes.length;
        bytes.writeUInt8(bytes.readUInt8(index) ^ (1 << bit), index);
        for (const bad of [
          bytes.toString('base64url'),
          cursor.slice(0, -1),
          `${cursor}A`,
          `${cursor}=`,
          ` ${cursor}`,
        ]) {
          expect(() => cursors.decode('acc_a', bad)).toThrow(expect.objectContaining({ code: 'INVALID_CURSOR' }));
        }
      }),
    );
  });

  it('is refused when another character spells the same bytes', () => {
    // 33 bytes need 44 characters, 41 need 55: the last character of these has bits to spare
    const cursor = cursors.encode('acc_a', { kind: 'commit', eventId: newId('evt') });
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const twins = [...alphabet].map((last) => cursor.slice(0, -1) + last).filter((twin) => twin !== cursor);
    for (const twin of twins) expect(() => cursors.decode('acc_a', twin)).toThrow('not a cursor');
  });

  it('is refused as any other text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 120 }), (text) => {
        expect(() => cursors.decode('acc_a', text)).toThrow(expect.objectContaining({ code: 'INVALID_CURSOR' }));
      }),
    );
  });

  it('is refused for another account, by another key, and from before a restored backup', () => {
    const cursor = cursors.encode('acc_a', { kind: 'position', position: 7 });
    const otherKey = createCursorCodec({ secret: Buffer.from('another') }, '0123456789abcdef');
    const otherEpoch = createCursorCodec({ secret }, 'fedcba9876543210');
    expect(() => cursors.decode('acc_b', cursor)).toThrow(expect.objectContaining({ code: 'INVALID_CURSOR' }));
    expect(() => otherKey.decode('acc_a', cursor)).toThrow(expect.objectContaining({ code: 'INVALID_CURSOR' }));
    expect(() => otherEpoch.decode('acc_a', cursor)).toThrow(expect.objectContaining({ code: 'EPOCH_CHANGED' }));
    expect(() => otherEpoch.decode('acc_b', cursor)).toThrow(expect.objectContaining({ code: 'INVALID_CURSOR' }));
  });
});

describe.each(BACKENDS)('resolving a cursor on %s', (kind) => {
  let log: LogDatabase;
  beforeAll(async () => {
    log = await openLog(kind);
  });
  afterAll(() => log.close());

  /** A clock that stands still but for waits, each `slow` times as long as asked; what happens at a wait is given. */
  const heldClock = (atWait: (waited: number) => Promise<void> | void = () => {}): Clock & { waited: number } => {
    const clock = {
      waited: 0,
      now: () => clock.waited,
      wait: async (ms: number) => {
        clock.waited += ms;
        await atWait(clock.waited);
      },
    };
    return clock;
  };
  const change = async (accountId: string) => {
    const { lastEventId = '' } = await log.transact(authorOf(accountId), (tx) =>
      tx.emit(noteWritten, { subjectId: 'note_a', payload: written('') }),
    );
    return cursors.encode(accountId, { kind: 'commit', eventId: lastEventId });
  };
  const resolve = (accountId: string, cursor: string, clock = heldClock()) =>
    resolveCursor({ database: log.database, cursors, clock }, accountId, cursor);

  it('waits for the stamp of a commit cursor, then stands behind its event', async () => {
    const accountId = await log.addAccount();
    await change(accountId);
    const cursor = await change(accountId);
    const clock = heldClock(async (waited) => {
      if (waited === 70) await stampAll(log.database);
    });
    expect(await resolve(accountId, cursor, clock)).toBe(2);
    expect(clock.waited).toBe(70);
    expect(await resolve(accountId, cursor)).toBe(2);
  });

  it('gives up on a commit cursor after 5 s with CURSOR_PENDING', async () => {
    const accountId = await log.addAccount();
    const clock = heldClock();
    await expect(resolve(accountId, await change(accountId), clock)).rejects.toMatchObject({ code: 'CURSOR_PENDING' });
    expect(clock.waited).toBe(STAMP_WAIT_MS);
    await stampAll(log.database);
  });

  it('accepts the beginning and the head, and no position behind it', async () => {
    const accountId = await log.addAccount();
    await change(accountId);
    await stampAll(log.database);
    const at = (position: number) => resolve(accountId, cursors.encode(accountId, { kind: 'position', position }));
    expect([await at(0), await at(1)]).toEqual([0, 1]);
    await expect(at(2)).rejects.toMatchObject({ code: 'INVALID_CURSOR' });
  });

  it('does not accept another account’s', async () => {
    const [mine, theirs] = [await log.addAccount(), await log.addAccount()];
    const cursor = await change(theirs);
    await stampAll(log.database);
    await expect(resolve(mine, cursor)).rejects.toMatchObject({ code: 'INVALID_CURSOR' });
  });
});
