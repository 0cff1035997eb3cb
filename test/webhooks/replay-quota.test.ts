import { sql } from 'kysely';
import { describe, expect, it } from 'vitest';
import { MAX_UNFINISHED } from '../../src/webhooks/replays.ts';
import { useReplayScene } from './replay-scene.ts';

describe('the replays of an account that are not finished', () => {
  const { scene, db, at, begin, refuse, change } = useReplayScene();

  /** Puts as many there as leave room for `room`, at a webhook of their own: they have looked at all and wait for retries. */
  async function fill(room: number): Promise<void> {
    const { id } = await scene.hook();
    await sql`
      insert into fanfare.replay (id, account_id, webhook_id, after_position, to_position, looked_to, filter, missing)
      select 'rpl_' || ${id}::text || n, ${scene.accountId}, ${id}, 0, 0, 0, '{}', false
      from generate_series(1, ${MAX_UNFINISHED - room}::int) n`.execute(db());
  }

  /** Each at a webhook of its own: replays of one webhook wait for each other anyway. */
  const hooks = (count: number) => Promise.all(Array.from({ length: count }, () => scene.hook()));

  async function count(): Promise<number | undefined> {
    const { rows } = await sql<{ count: number }>`
      select count(*)::int as count from fanfare.replay
      where account_id = ${scene.accountId} and finished_at is null`.execute(db());
    return rows[0]?.count;
  }

  const fulfilled = (settled: readonly PromiseSettledResult<unknown>[]) =>
    settled.filter(({ status }) => status === 'fulfilled').length;

  it('are a hundred at most', async () => {
    await fill(1);
    const [hooked, another] = await hooks(2);
    await begin({ webhookId: hooked?.id, startAfter: at(0) });
    const full = { code: 'CONFLICT', message: expect.stringContaining('100 replays that are not finished') };
    expect(await refuse({ webhookId: another?.id, startAfter: at(0) })).toMatchObject(full);
  });

  it('are never more, however many begin at once', async () => {
    await fill(2);
    const hooked = await hooks(8);
    const begun = await Promise.allSettled(hooked.map(({ id }) => begin({ webhookId: id, startAfter: at(0) })));
    expect(fulfilled(begun)).toBe(2);
    expect(await count()).toBe(MAX_UNFINISHED);
  });

  it('are a hundred with one that goes on before its cancel is through', async () => {
    const [hooked] = await hooks(1);
    await fill(1);
    const { id } = await begin({ webhookId: hooked?.id, startAfter: at(0) });
    await change('Cancel', id);
    expect(await count()).toBe(MAX_UNFINISHED);
    await change('Resume', id);
    expect(await count()).toBe(MAX_UNFINISHED);
  });

  it('are never more, however many go on at once', async () => {
    const hooked = await hooks(8);
    const begun = await Promise.all(hooked.map(({ id }) => begin({ webhookId: id, startAfter: at(0) })));
    await Promise.all(begun.map(({ id }) => change('Cancel', id)));
    await sql`update fanfare.replay set finished_at = fanfare.now() where account_id = ${scene.accountId}`.execute(
      db(),
    );
    await fill(2);
    const resumed = await Promise.allSettled(begun.map(({ id }) => change('Resume', id)));
    expect(fulfilled(resumed)).toBe(2);
    expect(await count()).toBe(MAX_UNFINISHED);
  });
});
