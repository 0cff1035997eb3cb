import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeNote } from '../support/api-user.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { withClient } from '../support/postgres-client.ts';
import { startSecondApp } from '../support/second-app.ts';
import { domain, toyMigrations } from '../support/toy-domain.ts';

/** As short as a busy machine allows for statements that nothing holds up. */
const STATEMENT_MS = 1_000;

/** Waits as long for a statement as a server does by itself, 30 s. */
let patient: TestApp;
/** The same data, by a URL that says how long a statement may take. */
let hasty: TestApp;
beforeAll(async () => {
  patient = await startApp({ backend: 'postgres and redis', domain, domainMigrations: toyMigrations });
  const url = new URL(databaseUrl());
  url.searchParams.set('statement_timeout', String(STATEMENT_MS));
  hasty = await startSecondApp(patient, { domain, env: { DATABASE_URL: url.href, ROLES: 'api' } });
});
afterAll(async () => {
  await hasty.stop();
  await patient.stop();
});

const databaseUrl = () => patient.env.DATABASE_URL ?? '';
const EDIT = `mutation ($id: ID!, $text: String!) {
  noteEdit(id: $id, text: $text) { ... on NoteEditSuccess { note { text version } } } }`;
const READ = 'query ($id: ID!) { note(id: $id) { text version } }';

/** Works while another transaction holds a lock, and then lets go; `untilWaits` resolves when a statement waits for it. */
async function whileHeld<T>(lock: string, work: (untilWaits: () => Promise<unknown>) => Promise<T>): Promise<T> {
  return withClient(databaseUrl(), async (holder) => {
    await holder.query('begin');
    await holder.query(lock);
    const result = await work(() => eventually(() => isWaitedFor(holder)));
    await holder.query('commit');
    return result;
  });
}

async function isWaitedFor(holder: pg.Client): Promise<boolean> {
  const { rows } = await holder.query<{ waits: boolean }>(
    'select exists (select from pg_stat_activity where pg_backend_pid() = any(pg_blocking_pids(pid))) as waits',
  );
  return rows[0]?.waits ?? false;
}

describe('what takes longer than a statement may', () => {
  it('is answered by TIMEOUT, and a change was not made', async () => {
    const { id } = await writeNote(patient, 'first');
    const waiting = await whileHeld(`select from note where id = '${id}' for update`, async (untilWaits) => {
      const edited = patient.post(EDIT, { id, text: 'patient' });
      await untilWaits();
      const refused = await hasty.post(EDIT, { id, text: 'hasty' });
      expect(refused).toMatchObject({
        data: null,
        errors: [{ message: 'the change took too long; nothing was changed', extensions: { code: 'TIMEOUT' } }],
      });
      return { edited };
    });
    // one that may take longer is only late
    const version = { note: { text: 'patient', version: 2 } };
    expect(await waiting.edited).toEqual({ data: { noteEdit: version } });
    expect(await hasty.post(READ, { id })).toEqual({ data: version });
    expect((await hasty.post(EDIT, { id, text: 'hasty' })).data.noteEdit.note).toEqual({ text: 'hasty', version: 3 });
  });

  it('is answered by TIMEOUT where it only reads', async () => {
    const { id } = await writeNote(patient, 'first');
    const waiting = await whileHeld('lock table note', async (untilWaits) => {
      const read = patient.post(READ, { id });
      await untilWaits();
      const { data, errors } = await hasty.post(READ, { id });
      expect(data).toEqual({ note: null });
      expect(errors).toMatchObject([{ message: 'the request took too long', extensions: { code: 'TIMEOUT' } }]);
      return { read };
    });
    expect(await waiting.read).toEqual({ data: { note: { text: 'first', version: 1 } } });
  });
});
