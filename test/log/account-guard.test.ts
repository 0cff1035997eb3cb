import { type Kysely, sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AccountGuard } from '../../src/database/account-guard.ts';
import { type LogDatabase, openLog } from '../support/log-database.ts';

interface Tables {
  note: { id: string; account_id: string; text: string };
  tag: { id: string; account_id: string; note_id: string };
  country: { code: string; text: string };
}
type Db = Kysely<Tables>;
interface Runnable {
  execute(): Promise<unknown>;
}

const ME = 'acc_me';
const YOU = 'acc_you';
const row = { id: 'n1', account_id: ME, text: '' };

/** Each names my account wherever an account's table is read or written. */
const bound: Record<string, (db: Db) => Runnable> = {
  'a select': (db) => db.selectFrom('note').selectAll().where('account_id', '=', ME),
  'a select with more conditions': (db) =>
    db.selectFrom('note').selectAll().where('text', '=', '').where('note.account_id', '=', ME),
  'an alias': (db) => db.selectFrom('note as n').selectAll().where('n.account_id', '=', ME),
  'a table without accounts': (db) => db.selectFrom('country').selectAll(),
  'a join by equality': (db) =>
    db
      .selectFrom('note')
      .innerJoin('tag', 'tag.account_id', 'note.account_id')
      .selectAll('note')
      .where('note.account_id', '=', ME),
  'a join with its own condition': (db) =>
    db
      .selectFrom('country')
      .leftJoin('note', (join) => join.onRef('note.text', '=', 'country.code').on('note.account_id', '=', ME))
      .selectAll('country'),
  'a subquery that is bound': (db) =>
    db
      .selectFrom('note')
      .selectAll()
      .where('account_id', '=', ME)
      .where('id', 'in', (eb) => eb.selectFrom('tag').select('note_id').where('account_id', '=', ME)),
  'a common table': (db) =>
    db
      .with('mine', (q) => q.selectFrom('note').selectAll().where('account_id', '=', ME))
      .selectFrom('mine')
      .selectAll(),
  'an update': (db) => db.updateTable('note').set({ text: 'b' }).where('account_id', '=', ME),
  'a delete': (db) => db.deleteFrom('note').where('account_id', '=', ME),
  'an insert': (db) =>
    db
      .insertInto('note')
      .values(row)
      .onConflict((conflict) => conflict.doNothing()),
  'an insert of several': (db) =>
    db.insertInto('note').values([
      { ...row, id: 'n2' },
      { ...row, id: 'n3' },
    ]),
  'an insert that updates its own row in a conflict': (db) =>
    db
      .insertInto('note')
      .values(row)
      .onConflict((conflict) => conflict.column('id').doUpdateSet({ text: 'b' }).where('note.account_id', '=', ME)),
  'an outer join bound by the where': (db) =>
    db
      .selectFrom('note')
      .leftJoin('tag', (join) => join.onRef('tag.account_id', '=', 'note.account_id'))
      .selectAll('note')
      .where('note.account_id', '=', ME),
  'a raw fragment that names a column': (db) =>
    db.selectFrom('note').select(sql<string>`lower(note.text)`.as('text')).where('account_id', '=', ME),
  'a raw statement that names account_id': (db) => ({
    execute: () => sql`select * from note where account_id = ${ME}`.execute(db),
  }),
};

const unbound: Record<string, (db: Db) => Runnable> = {
  'a select': (db) => db.selectFrom('note').selectAll(),
  'a select with its schema': (db) => db.withSchema('public').selectFrom('note').selectAll(),
  'another account': (db) => db.selectFrom('note').selectAll().where('account_id', '=', YOU),
  'an inequality': (db) => db.selectFrom('note').selectAll().where('account_id', '>=', ME),
  'one of two alternatives': (db) =>
    db
      .selectFrom('note')
      .selectAll()
      .where((eb) => eb.or([eb('account_id', '=', ME), eb('text', '=', '')])),
  'a negation': (db) =>
    db
      .selectFrom('note')
      .selectAll()
      .where((eb) => eb.not(eb('account_id', '=', ME))),
  'the other of two joined tables': (db) =>
    db.selectFrom('note').innerJoin('tag', 'tag.note_id', 'note.id').selectAll('tag').where('note.account_id', '=', ME),
  'a table joined with itself': (db) =>
    db.selectFrom('note as a').innerJoin('note as b', 'a.id', 'b.id').selectAll('b').where('a.account_id', '=', ME),
  'a subquery in the where': (db) =>
    db
      .selectFrom('note')
      .selectAll()
      .where('account_id', '=', ME)
      .where('id', 'in', (eb) => eb.selectFrom('tag').select('note_id')),
  'a subquery in the select': (db) =>
    db.selectFrom('country').select((eb) => eb.selectFrom('note').select('text').limit(1).as('text')),
  'a subquery in the from': (db) => db.selectFrom((eb) => eb.selectFrom('note').selectAll().as('all')).selectAll(),
  'a common table': (db) =>
    db
      .with('all', (q) => q.selectFrom('note').selectAll())
      .selectFrom('all')
      .selectAll(),
  'half of a union': (db) =>
    db
      .selectFrom('note')
      .select('text')
      .where('account_id', '=', ME)
      .union((eb) => eb.selectFrom('note').select('text')),
  'an update': (db) => db.updateTable('note').set({ text: 'b' }),
  'an update of the account': (db) => db.updateTable('note').set({ account_id: ME }).where('account_id', '=', ME),
  'an update that reads another table': (db) =>
    db
      .updateTable('note')
      .from('tag')
      .set({ text: 'b' })
      .where('note.account_id', '=', ME)
      .whereRef('tag.note_id', '=', 'note.id'),
  'a delete': (db) => db.deleteFrom('note'),
  'a delete by id': (db) => db.deleteFrom('note').where('id', '=', 'n1'),
  'a delete that reads another table': (db) =>
    db.deleteFrom('note').using('tag').where('note.account_id', '=', ME).whereRef('tag.note_id', '=', 'note.id'),
  'an insert for another account': (db) => db.insertInto('note').values({ ...row, account_id: YOU }),
  'an insert of which one is for another': (db) => db.insertInto('note').values([row, { ...row, account_id: YOU }]),
  'an insert from a select': (db) =>
    db
      .insertInto('note')
      .columns(['id', 'account_id', 'text'])
      .expression((eb) => eb.selectFrom('note').selectAll()),
  'an insert that updates whosever row is in its way': (db) =>
    db
      .insertInto('note')
      .values(row)
      .onConflict((conflict) => conflict.column('id').doUpdateSet({ text: 'b' })),
  'an insert that moves the row in its way': (db) =>
    db
      .insertInto('note')
      .values(row)
      .onConflict((conflict) =>
        conflict.column('id').doUpdateSet({ account_id: ME }).where('note.account_id', '=', ME),
      ),
  'the outer side of an outer join, bound in its on': (db) =>
    db
      .selectFrom('note')
      .leftJoin('country', (join) => join.on('note.account_id', '=', ME))
      .selectAll('note'),
  'the joined side of a right join, bound in its on': (db) =>
    db
      .selectFrom('country')
      .rightJoin('note', (join) => join.on('note.account_id', '=', ME))
      .selectAll('note'),
  'an update of the account by name': (db) => db.updateTable('note').set('account_id', ME).where('account_id', '=', ME),
  'a raw statement with a table as a parameter': (db) => ({
    execute: () => sql`select * from ${sql.table('note')}`.execute(db),
  }),
  'a raw statement with a list of tables': (db) => ({ execute: () => sql`select * from country, note`.execute(db) }),
  'a raw statement with a schema': (db) => ({ execute: () => sql`select * from public.note`.execute(db) }),
  'a raw table': (db) => db.selectFrom(sql<{ id: string }>`note`.as('n')).selectAll(),
  'a raw statement': (db) => ({ execute: () => sql`select * from note`.execute(db) }),
  'a raw statement with quotes and schema': (db) => ({ execute: () => sql`select * from "note" n`.execute(db) }),
};

describe('the account guard', () => {
  let log: LogDatabase;
  let db: Db;
  beforeAll(async () => {
    log = await openLog('postgres');
    await sql`create table note (id text primary key, account_id text not null, text text not null)`.execute(
      log.database.db,
    );
    await sql`create table tag (id text primary key, account_id text not null, note_id text not null)`.execute(
      log.database.db,
    );
    await sql`create table country (code text primary key, text text not null)`.execute(log.database.db);
    const guard = new AccountGuard({ tables: new Set(['note', 'tag']), accountId: ME });
    // this database has the tables that were just made
    db = log.database.db.withPlugin(guard) as unknown as Db;
  });
  afterAll(() => log.close());

  it.each(Object.entries(bound))('accepts %s that is bound', async (_what, statement) => {
    await expect(statement(db).execute()).resolves.toBeDefined();
  });

  it.each(Object.entries(unbound))('refuses %s that is not bound', async (_what, statement) => {
    await expect(Promise.resolve().then(() => statement(db).execute())).rejects.toThrow('account guard: ');
  });
});
