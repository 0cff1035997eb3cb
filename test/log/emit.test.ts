import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { syncEventTypes, upcast } from '../../src/outbox/catalog.ts';
import type { Observation } from '../../src/runtime/observe.ts';
import { postgresDir } from '../support/binaries.ts';
import { authorOf, BACKENDS, type LogDatabase, openLog, wholeLog } from '../support/log-database.ts';
import { logCatalog, noteEdited, notePinned, noteWritten, written } from '../support/log-domain.ts';
import { createLeader, drain, stampAll } from '../support/log-sequencer.ts';
import { withClient } from '../support/postgres-client.ts';

describe.each(BACKENDS)('fanfare.emit on %s', (kind) => {
  let log: LogDatabase;
  let accountId: string;
  beforeAll(async () => {
    log = await openLog(kind);
    accountId = await log.addAccount();
  });
  afterAll(() => log.close());

  const big = { text: 'x'.repeat(262_144), author: null, mentions: [] };
  it.each([
    [
      'an unknown name',
      ['note.burnt', 'n', {}],
      /FF001.*"note.burnt" is not an event type.*note\.edited, note\.pinned/s,
    ],
    ['no name', [null, 'n', {}], /FF001/],
    ['no subject', ['note.written', null, {}], /FF003/],
    ['an empty subject', ['note.written', '', {}], /FF003/],
    ['a subject of 201 characters', ['note.written', 'x'.repeat(201), {}], /FF003/],
    ['no payload', ['note.written', 'n', null], /FF004.*found null/s],
    ['a payload that is a list', ['note.written', 'n', []], /FF004.*found array/s],
    ['a payload that is a text', ['note.written', 'n', '"text"'], /FF004.*found string/s],
    ['a payload over 256 KiB', ['note.written', 'n', big], /FF005.*at most 262144/s],
    ['a version from the future', ['note.pinned', 'n', {}, null, 4], /FF006.*expected 1 to 3/s],
    ['version 0', ['note.pinned', 'n', {}, null, 0], /FF006/],
    ['no version', ['note.pinned', 'n', {}, null, null], /FF006/],
    ['a fact with changed fields', ['note.written', 'n', {}, ['text']], /FF007.*is a fact/s],
    ['an update without changed', ['note.edited', 'n', {}], /FF007.*is an update/s],
    ['a changed field without a name', ['note.edited', 'n', {}, ['text', null]], /FF007.*plain list/s],
  ])('refuses %s', async (_what, args, expected) => {
    const refused = await log.emit(accountId, ...args).then(
      () => 'accepted',
      (error: Error & { code: string; hint?: string }) => `${error.code} ${error.message} ${error.hint}`,
    );
    expect(refused).toMatch(expected);
    expect(await log.database.db.selectFrom('fanfare.subject').selectAll().where('id', '=', 'n').execute()).toEqual([]);
  });

  it.each(['acc_nobody', null])('refuses the account %s, which does not exist', async (nobody) => {
    await expect(log.emit(nobody, 'note.written', 'n', {})).rejects.toMatchObject({ code: 'FF002' });
  });

  it('emits nothing and takes no version where an update changed nothing', async () => {
    expect(await log.emit(accountId, 'note.edited', 'note_same', { text: 'a' }, [])).toBeNull();
    const { result, lastEventId } = await log.transact(authorOf(accountId), (tx) =>
      tx.emit(noteEdited, { subjectId: 'note_same', payload: { text: 'a' }, changed: [] }),
    );
    expect([result, lastEventId]).toEqual([undefined, undefined]);
    await log.transact(authorOf(accountId), async (tx) => {
      const emitted = await tx.emit(noteEdited, { subjectId: 'note_same', payload: { text: 'b' }, changed: ['text'] });
      expect(emitted?.subjectVersion).toBe(1);
    });
  });

  it('keeps who asked, for what, and because of which event', async () => {
    const account = await log.addAccount();
    await log.emit(account, 'note.written', 'note_a', written('a'), null, 1, 'key_1', 'request 1', 'evt_cause');
    await stampAll(log.database);
    expect(await wholeLog(log.database, account)).toMatchObject([
      { actor: 'key_1', requestId: 'request 1', causedBy: 'evt_cause', subjectType: 'Note', subjectVersion: 1 },
    ]);
  });

  it('parks a payload that breaks its schema with the reason; its version stays a hole and it blocks nobody', async () => {
    const account = await log.addAccount();
    const observed: Observation[] = [];
    await log.emit(account, 'note.written', 'note_a', written('first'));
    const bad = await log.emit(account, 'note.written', 'note_a', { text: 7, author: null, mentions: [] });
    const older = await log.emit(account, 'note.pinned', 'note_a', { pins: 'many' }, null, 2);
    await log.transact(authorOf(account), (tx) =>
      tx.emit(noteWritten, { subjectId: 'note_a', payload: written('last') }),
    );
    await stampAll(log.database, { observe: (observation) => observed.push(observation) });

    const events = await wholeLog(log.database, account);
    expect(events.map(({ position, subjectVersion }) => [position, subjectVersion])).toEqual([
      [1, 1],
      [2, 4],
    ]);
    const parked = await log.database.db
      .selectFrom('fanfare.parked')
      .selectAll()
      .where('account_id', '=', account)
      .orderBy('seq')
      .execute();
    expect(parked).toMatchObject([
      { event_id: bad, name: 'note.written', reason: expect.stringMatching(/expected string.*text/s) },
      { event_id: older, name: 'note.pinned', reason: expect.stringMatching(/pins/) },
    ]);
    expect(observed).toContainEqual({ name: 'relay.checked', seqs: 3, invalid: 2 });
    expect(await outboxSize(log)).toBe(0);
  });

  it('stamps a full batch after another where a part of each is parked', async () => {
    const account = await log.addAccount();
    for (let n = 0; n < 12; n++) {
      await log.emit(account, 'note.written', 'note_a', n % 3 === 0 ? {} : written(`${n}`));
      await log.transact(authorOf(account), (tx) =>
        tx.emit(noteWritten, { subjectId: 'note_b', payload: written('') }),
      );
    }
    await stampAll(log.database, { batchSize: 4 });
    expect(await outboxSize(log)).toBe(0);
    expect((await wholeLog(log.database, account)).map(({ position }) => position)).toEqual(
      Array.from({ length: 20 }, (_, at) => at + 1),
    );
  });

  it('validates an older payload_version after upcasting it, and upcasts what is read', async () => {
    const account = await log.addAccount();
    await log.emit(account, 'note.pinned', 'note_a', { pinned: true }, null, 1);
    await log.emit(account, 'note.pinned', 'note_a', { pins: 4 }, null, 2);
    await log.emit(account, 'note.pinned', 'note_a', { pins: 5, reason: 'fine' }, null, 3);
    await stampAll(log.database);
    const events = await wholeLog(log.database, account);
    expect(events.map(({ payloadVersion }) => payloadVersion)).toEqual([1, 2, 3]);
    expect(events.map(({ payload, payloadVersion }) => upcast(notePinned, payload, payloadVersion))).toEqual([
      { pins: 1, reason: 'none given' },
      { pins: 4, reason: 'none given' },
      { pins: 5, reason: 'fine' },
    ]);
  });

  it('computes what an event is related to, through objects, null and lists', async () => {
    const account = await log.addAccount();
    const author = { userId: 'user_a' };
    const mentions = [{ userId: 'user_b' }, { userId: 'user_c' }, { userId: 'user_b' }];
    await log.emit(account, 'note.written', 'note_a', { text: '', author, mentions });
    await log.emit(account, 'note.written', 'note_a', { text: '', author: null, mentions: [] });
    await stampAll(log.database);
    const events = await wholeLog(log.database, account);
    expect(events.map(({ related }) => related.toSorted())).toEqual([['user_a', 'user_b', 'user_c'], []]);
  });

  it('is not stamped past by what follows it until the leader has seen it', async () => {
    const account = await log.addAccount();
    const emitChecked = () =>
      log.transact(authorOf(account), (tx) => tx.emit(noteWritten, { subjectId: 'note_a', payload: written('') }));
    await emitChecked();
    await log.emit(account, 'note.written', 'note_a', written(''));
    await emitChecked();
    const leader = createLeader(log.database, { leaseMs: 60_000 });
    await leader.keepLeases();
    const shards = [...leader.held()];
    const { rows: held } = await sql<{ generation: number }>`
      select generation from fanfare.shard where id = any(${shards}::smallint[]) order by array_position(${shards}::smallint[], id)
    `.execute(log.database.db);
    const generations = held.map(({ generation }) => generation);
    // as a leader whose look at the unchecked rows was a moment before the second event's commit
    const { rows } = await sql<{ subject_version: number }>`
      select subject_version from fanfare.stamp(${shards}::smallint[], ${generations}::bigint[], '{}', '{}', '{}', 100)
    `.execute(log.database.db);
    expect(rows).toEqual([{ subject_version: 1 }]);
    await drain(leader);
    expect((await wholeLog(log.database, account)).map(({ subjectVersion }) => subjectVersion)).toEqual([1, 2, 3]);
    await leader.release();
  });
});

describe('another program on the same Postgres', () => {
  const role = `fanfare_other_${randomBytes(4).toString('hex')}`;
  const run = promisify(execFile);
  let log: LogDatabase;
  let roleUrl: string;
  beforeAll(async () => {
    log = await openLog('postgres');
    await syncEventTypes(log.database, logCatalog);
    await withClient(log.url, async (client) => {
      await client.query(`create role ${role} login password 'other'`);
      await client.query(`grant usage on schema fanfare to ${role}`);
      await client.query(
        `create table stock (id text primary key, pieces int); grant select, insert on stock to ${role}`,
      );
    });
    const url = new URL(log.url);
    url.username = role;
    url.password = 'other';
    roleUrl = url.href;
  });
  afterAll(async () => {
    await withClient(log.url, (client) => client.query(`drop owned by ${role}; drop role ${role}`));
    await log.close();
  });

  const psql = async (script: string) => {
    const args = ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-c', script, roleUrl];
    return (await run(join(postgresDir(), 'psql'), args)).stdout.trim();
  };
  const change = (accountId: string, piece: string, end: string) => `
    begin;
    insert into stock values ('${piece}', 1);
    select fanfare.emit('${accountId}', 'note.written', 'note_a', '{"text": "${piece}", "author": null, "mentions": []}');
    ${end};`;

  it('emits from psql in its own transaction, with usage on the schema alone', async () => {
    const accountId = await log.addAccount();
    const id = await psql(change(accountId, 'kept', 'commit'));
    await psql(change(accountId, 'undone', 'rollback'));
    await stampAll(log.database);
    expect(await wholeLog(log.database, accountId)).toMatchObject([{ id, position: 1, payload: { text: 'kept' } }]);
    expect(await psql('select id from stock')).toBe('kept');
  });

  it.each([
    `select fanfare.append('acc_default', 'note.written', 'n', '{}', null, 1, null, null, null, true)`,
    'select * from fanfare.event',
    'select * from fanfare.api_key',
    'insert into fanfare.outbox values (0, 1, true)',
    `delete from fanfare.log`,
    `select nextval('fanfare.event_seq')`,
    `select * from fanfare.claim_shards('me', '1 hour', true)`,
    `select fanfare.make_partitions('2100-01-01', 'log')`,
  ])('may not: %s', async (statement) => {
    await withClient(roleUrl, async (client) => {
      await expect(client.query(statement)).rejects.toMatchObject({ code: '42501' });
    });
  });
});

async function outboxSize({ database }: LogDatabase): Promise<number> {
  return (await database.db.selectFrom('fanfare.outbox').select('seq').execute()).length;
}
