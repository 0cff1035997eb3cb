import { sql } from 'kysely';
import { describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import type { ReceivedRequest } from '../support/receiver.ts';
import { noteWritten } from '../support/toy-domain.ts';
import { textsOf, workOff } from './webhook-engine.ts';
import { useWebhookScene } from './webhook-scene.ts';

const UPDATE = 'mutation ($input: WebhookUpdateInput!) { webhookUpdate(input: $input) { __typename } }';
const LIST = `query ($filter: DeliveryFilter) { deliveries(filter: $filter, first: 100) {
  nodes { id status waitsFor nextAttemptAt event { subjectId } } } }`;

interface Listed {
  readonly id: string;
  readonly status: string;
  readonly waitsFor: string | null;
  readonly nextAttemptAt: string | null;
  readonly event: { readonly subjectId: string };
}

describe('a webhook that keeps the order within a subject', () => {
  const scene = useWebhookScene();
  const { hook, start } = scene;
  const ordered = (input: Readonly<Record<string, unknown>> = {}) => hook({ ordering: 'PER_SUBJECT', ...input });

  /** Each text's first letter is its subject. */
  async function write(...texts: string[]): Promise<void> {
    const author = { accountId: scene.accountId, actor: null, requestId: null, causedBy: null };
    await scene.engine.services.transact(author, async (tx) => {
      for (const text of texts)
        await tx.emit(noteWritten, { subjectId: text.charAt(0), payload: { note: { noteId: text.charAt(0), text } } });
    });
    await scene.engine.stampedEvents(scene.accountId);
  }

  async function list(filter: Readonly<Record<string, unknown>> = {}): Promise<readonly Listed[]> {
    const { deliveries } = await scene.engine.run<{ deliveries: { nodes: Listed[] } }>(LIST, {
      variables: { filter },
      accountId: scene.accountId,
    });
    return deliveries.nodes;
  }

  const change = (input: Readonly<Record<string, unknown>>) =>
    scene.engine.run(UPDATE, { variables: { input }, accountId: scene.accountId });
  const retry = (id: string) =>
    scene.engine.run('mutation ($id: ID!) { deliveryRetry(id: $id) { __typename } }', {
      variables: { id },
      accountId: scene.accountId,
    });
  const ofSubject = (requests: readonly ReceivedRequest[], subject: string) =>
    textsOf(requests).filter((text) => text.startsWith(subject));

  it('sends one delivery of a subject at a time, by position, and those of others beside it', async () => {
    const release = Promise.withResolvers<void>();
    const { path, received } = await ordered();
    scene.receiver.script(path, { after: release.promise });
    await write('a1', 'a2', 'a3', 'b1', 'b2');
    const worker = scene.engine.createWorker();
    await worker.runOnce();
    await eventually(() => received().length === 2);
    expect(new Set(textsOf(received()))).toEqual(new Set(['a1', 'b1']));
    const waiting = await list({ statuses: ['WAITING'] });
    expect(waiting.map(({ nextAttemptAt }) => nextAttemptAt)).toEqual(waiting.map(() => null));
    const first = (await list({ statuses: ['SENDING'] })).find(({ event }) => event.subjectId === 'a');
    expect(waiting.filter(({ event }) => event.subjectId === 'a').map(({ waitsFor }) => waitsFor)).toEqual([
      first?.id,
      first?.id,
    ]);
    release.resolve();
    await worker.settled();
    await workOff(worker);
    expect(ofSubject(received(), 'a')).toEqual(['a1', 'a2', 'a3']);
    expect(ofSubject(received(), 'b')).toEqual(['b1', 'b2']);
  });

  it('lets one that fails hold up its own subject only, and go first when it is due', async () => {
    const { path, received } = await ordered({ retry: { delays: [60, 60] } });
    scene.receiver.script(path, { status: 500 });
    await write('a1');
    const worker = scene.engine.createWorker();
    await workOff(worker);
    await write('a2', 'b1', 'a3', 'b2');
    await workOff(worker);
    expect(textsOf(received())).toEqual(['a1', 'b1', 'b2']);
    await scene.engine.advanceClock(70_000);
    await workOff(worker);
    expect(textsOf(received())).toEqual(['a1', 'b1', 'b2', 'a1', 'a2', 'a3']);
  });

  it('skips one that has used up its attempts', async () => {
    const { path, received } = await ordered({ retry: { delays: [] } });
    scene.receiver.script(path, { status: 500 });
    await write('a1', 'a2');
    await workOff(scene.engine.createWorker());
    expect(textsOf(received())).toEqual(['a1', 'a2']);
    expect((await list()).map(({ status }) => status).sort()).toEqual(['EXHAUSTED', 'SUCCEEDED']);
  });

  describe('and blocks behind one that has used up its attempts', () => {
    async function block() {
      const made = await ordered({ retry: { delays: [] }, onExhausted: 'BLOCK' });
      scene.receiver.script(made.path, { status: 500 });
      await write('a1', 'a2', 'b1');
      const worker = scene.engine.createWorker();
      await workOff(worker);
      await write('a3');
      await workOff(worker);
      expect(new Set(textsOf(made.received()))).toEqual(new Set(['a1', 'b1']));
      const [blocking] = await list({ statuses: ['EXHAUSTED'] });
      expect(blocking).toMatchObject({ status: 'EXHAUSTED', nextAttemptAt: null });
      const rest = await list({ statuses: ['WAITING'] });
      expect(rest).toMatchObject([
        { status: 'WAITING', waitsFor: blocking?.id },
        { status: 'WAITING', waitsFor: blocking?.id },
      ]);
      return { ...made, worker, blocking: blocking?.id ?? '', waiting: rest[0]?.id ?? '' };
    }

    it('until that is sent again and succeeds', async () => {
      const { worker, blocking, waiting, received } = await block();
      await expect(retry(waiting)).rejects.toThrow('it waits for an earlier delivery of its subject');
      await retry(blocking);
      await workOff(worker);
      expect(ofSubject(received(), 'a')).toEqual(['a1', 'a1', 'a2', 'a3']);
    });

    it.each([{ onExhausted: 'SKIP' }, { ordering: 'UNORDERED' }])('until it is told %j', async (input) => {
      const { id, worker, received } = await block();
      await change({ id, ...input });
      await eventually(async () => {
        await workOff(worker);
        return received().length === 4;
      });
      expect(ofSubject(received(), 'a')).toEqual(['a1', 'a2', 'a3']);
      expect((await list({ statuses: ['EXHAUSTED'] })).length).toBe(1);
    });
  });

  it('keeps the order of what is open when it is told to', async () => {
    const { id, path, received } = await hook({ retry: { delays: [60] } });
    scene.receiver.script(path, { status: 500 });
    await write('a1');
    const worker = scene.engine.createWorker();
    await workOff(worker);
    await change({ id, ordering: 'PER_SUBJECT' });
    await write('a2');
    await workOff(worker);
    expect(textsOf(received())).toEqual(['a1']);
    await scene.engine.advanceClock(70_000);
    await workOff(worker);
    expect(textsOf(received())).toEqual(['a1', 'a1', 'a2']);
  });

  it('sends the next of a subject as soon as the one before it has arrived, not with the next poll', async () => {
    const release = Promise.withResolvers<void>();
    const { path, received } = await ordered();
    scene.receiver.script(path, { after: release.promise });
    await write('a1', 'a2');
    start(scene.engine.createWorker({ pollMs: 60_000 }));
    await eventually(() => received().length === 1);
    await eventually(async () => (await list()).some(({ status }) => status === 'SENDING'));
    release.resolve();
    await eventually(() => received().length === 2);
    expect(textsOf(received())).toEqual(['a1', 'a2']);
  });

  it('goes on when what was before is cancelled', async () => {
    const { id, path, received } = await ordered({ retry: { delays: [60] }, filter: {}, eventTypes: ['NOTE_WRITTEN'] });
    scene.receiver.script(path, { status: 500 });
    await write('a1', 'a2');
    const worker = scene.engine.createWorker();
    await workOff(worker);
    expect(received()).toHaveLength(1);
    await change({ id, eventTypes: ['NOTE_EDITED'] });
    expect((await list()).map(({ status }) => status)).toEqual(['CANCELLED', 'CANCELLED']);
    await change({ id, eventTypes: ['NOTE_WRITTEN'] });
    await write('a3');
    start(scene.engine.createWorker({ pollMs: 20 }));
    await eventually(() => received().length === 2);
    expect(received().map(({ body }) => JSON.parse(String(body)).data.note.text)).toEqual(['a1', 'a3']);
  });

  it('begins in the past in order, also while events come', async () => {
    await write(...Array.from({ length: 60 }, (_, n) => `${'abc'.charAt(n % 3)}${n}`));
    const startAfter = scene.engine.services.cursors.encode(scene.accountId, { kind: 'position', position: 0 });
    const { id, received } = await ordered({ startAfter });
    // as if the past were long
    await sql`delete from fanfare.delivery where webhook_id = ${id}`.execute(scene.engine.services.database.db);
    await sql`update fanfare.webhook set backfilled_to = 0 where id = ${id}`.execute(scene.engine.services.database.db);
    await write('a60', 'b61', 'c62');
    for (let n = 0; n < 7; n++) {
      await sql`select fanfare.backfill_webhooks(${id}, 10)`.execute(scene.engine.services.database.db);
      await workOff(scene.engine.createWorker());
    }
    await eventually(async () => {
      await workOff(scene.engine.createWorker());
      return received().length === 63;
    });
    for (const subject of 'abc') {
      const numbers = ofSubject(received(), subject).map((text) => Number(text.slice(1)));
      expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
    }
  });
});

describe('births and ends of one subject', () => {
  const scene = useWebhookScene();
  const SUBJECTS = 40;
  const ROUNDS = 6;

  /** Births by stamps and ends by finishes, crosswise, without the net. @returns deliveries that wait behind nothing */
  async function cross(): Promise<number> {
    const { id } = await scene.hook({ ordering: 'PER_SUBJECT' });
    const { database } = scene.engine.services;
    const author = { accountId: scene.accountId, actor: null, requestId: null, causedBy: null };
    const write = () =>
      scene.engine.services.transact(author, async (tx) => {
        for (let n = 0; n < SUBJECTS; n++)
          await tx.emit(noteWritten, { subjectId: `s${n}`, payload: { note: { noteId: `s${n}`, text: 'x' } } });
      });
    let isWriting = true;
    const finishing = (async () => {
      for (let idle = 0; isWriting || idle < 3; ) {
        const { rows } = await sql<{
          account_id: string;
          id: string;
          generation: number;
          webhook_id: string;
          subject: string;
        }>`
          update fanfare.delivery set lease_until = clock_timestamp() + interval '1 minute', generation = generation + 1
          where webhook_id = ${id} and next_at <= fanfare.now() and lease_until is null returning account_id, id, generation, webhook_id, subject
        `.execute(database.db);
        idle = rows.length === 0 ? idle + 1 : 0;
        const results = rows.map((row) => ({ ...row, status: 'SUCCEEDED' }));
        await sql`select fanfare.finish_deliveries(${JSON.stringify(results)}::jsonb)`.execute(database.db);
      }
    })();
    for (let round = 0; round < ROUNDS; round++) {
      await write();
      await scene.engine.stampedEvents(scene.accountId);
    }
    isWriting = false;
    await finishing;
    const { rows } = await sql<{ left: number }>`
      select count(*)::int as left from fanfare.delivery where webhook_id = ${id}
    `.execute(database.db);
    return rows[0]?.left ?? -1;
  }

  it('leave nothing waiting, however they cross', async () => {
    expect(await cross()).toBe(0);
  });

  it('would, if those that end woke nobody (control)', async () => {
    const { db } = scene.engine.services.database;
    const { rows } = await sql<{ source: string }>`
      select pg_get_functiondef('fanfare.wake_subjects'::regproc) as source
    `.execute(db);
    const source = rows[0]?.source ?? '';
    const naive = source.replace("f.next_at = 'infinity'", 'f.is_blocking');
    expect(naive).not.toBe(source);
    await sql.raw(naive).execute(db);
    try {
      expect(await cross()).toBeGreaterThan(0);
    } finally {
      await sql.raw(source).execute(db);
    }
  });
});
