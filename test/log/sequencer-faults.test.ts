import { sql } from 'kysely';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { type LogDatabase, openLog, wholeLog } from '../support/log-database.ts';
import { describeEmbeddedKills } from '../support/log-embedded-kills.ts';
import { expectStampedOnce, writeMixed } from '../support/log-faults.ts';
import { type LeaderProcess, spawnLeader } from '../support/log-leader-process.ts';
import { createLeader, drain } from '../support/log-sequencer.ts';

const STEPS = ['relay.claimed', 'relay.checked', 'relay.stamped', 'relay.batch'];
const LEASE_MS = 300;

describe('a leader on Postgres', () => {
  let log: LogDatabase;
  let processes: LeaderProcess[] = [];
  const spawn = (plan: Partial<Parameters<typeof spawnLeader>[0]> = {}) => {
    const process = spawnLeader({ url: log.url, owner: `child_${processes.length}`, leaseMs: LEASE_MS, ...plan });
    processes.push(process);
    return process;
  };
  beforeAll(async () => {
    log = await openLog('postgres');
  });
  afterEach(async () => {
    for (const process of processes) await process.stop();
    processes = [];
  });
  afterAll(() => log.close());

  /** Takes what it can get until all that was written is stamped. */
  async function untilStamped(owner: string): Promise<void> {
    const leader = createLeader(log.database, { owner, leaseMs: LEASE_MS });
    await eventually(async () => {
      await leader.keepLeases();
      await drain(leader);
      return (await log.database.db.selectFrom('fanfare.outbox').select('seq').execute()).length === 0;
    });
    await leader.release();
  }

  it('frozen between checking and stamping past its lease stamps nothing after it was thawed', async () => {
    const accountId = await log.addAccount();
    const ids = await writeMixed(log, accountId, 30);
    const frozen = spawn({ signalAt: { name: 'relay.checked', signal: 'SIGSTOP', nth: 2 } });
    await frozen.untilFrozen();
    await untilStamped('second');
    ids.push(...(await writeMixed(log, accountId, 20)));
    const before = await eventually(() => frozen.observed.length);

    frozen.thaw();
    await eventually(
      () => frozen.observed.length > before && frozen.observed.some(({ name }) => name === 'relay.lost'),
    );
    const sinceThaw = frozen.observed.slice(before).map(({ name }) => name);
    expect(sinceThaw.slice(0, sinceThaw.indexOf('relay.lost'))).not.toContain('relay.stamped');

    await eventually(async () => (await wholeLog(log.database, accountId)).length === ids.length);
    await expectStampedOnce(log.database, accountId, ids);
  });

  it('frozen at any moment, beside another, makes neither gap nor repetition', async () => {
    const accountId = await log.addAccount();
    const racers = [spawn(), spawn()];
    const ids: string[] = [];
    for (let round = 0; round < 3; round += 1) {
      const written = writeMixed(log, accountId, 40);
      const before = new Map(racers.map((racer) => [racer, racer.observed.length]));
      // Either may lead the account's shard by now: the one that is seen to work is the one to freeze.
      const victim = await eventually(
        () => racers.find((racer) => racer.observed.length > (before.get(racer) ?? 0)) ?? false,
      );
      await victim.freeze();
      ids.push(...(await written));
      await untilStamped('third');
      victim.thaw();
    }
    await eventually(async () => (await wholeLog(log.database, accountId)).length === ids.length);
    await expectStampedOnce(log.database, accountId, ids);
  });

  it('without a fence gives positions twice after it was thawed (control)', async () => {
    const accountId = await log.addAccount();
    await sql`
      create function public.naive_stamp(p_account text, p_head bigint) returns void language sql as $$
        with gone as (delete from fanfare.outbox returning shard, seq),
          numbered as (select g.*, row_number() over (order by g.seq) as n from gone g)
        insert into fanfare.log (shard, shard_offset, account_id, position, seq, stamped_at)
        select n.shard, p_head + n.n, p_account, p_head + n.n, n.seq, clock_timestamp() from numbered n
      $$`.execute(log.database.db);
    const readNaively = async () => (await wholeLog(log.database, accountId)).length;
    const stampNaively = (head: number) =>
      sql`select public.naive_stamp(${accountId}, ${head})`.execute(log.database.db);

    const headOfFrozen = await readNaively();
    await writeMixed(log, accountId, 5);
    await stampNaively(await readNaively());
    await writeMixed(log, accountId, 5);
    await stampNaively(headOfFrozen);

    const positions = (await wholeLog(log.database, accountId)).map(({ position }) => position);
    expect(new Set(positions).size).toBeLessThan(positions.length);
    await sql`delete from fanfare.log where account_id = ${accountId}`.execute(log.database.db);
  });

  it.each(STEPS)('killed at %s leaves everything to be stamped exactly once', async (name) => {
    const accountId = await log.addAccount();
    const ids = await writeMixed(log, accountId, 30);
    const killed = spawn({ signalAt: { name, signal: 'SIGKILL', nth: name === 'relay.claimed' ? 1 : 2 } });
    expect(await killed.ended).toBe('SIGKILL');
    await untilStamped('heir');
    await expectStampedOnce(log.database, accountId, ids);
  });

  it('killed at any time leaves everything to be stamped exactly once', async () => {
    const accountId = await log.addAccount();
    const ids: string[] = [];
    for (const observations of [3, 8]) {
      ids.push(...(await writeMixed(log, accountId, 60)));
      const victim = spawn({ owner: `victim_${observations}` });
      await eventually(() => victim.observed.length >= observations);
      await victim.kill();
    }
    await untilStamped('heir');
    await expectStampedOnce(log.database, accountId, ids);
  });

  it('that takes from the outbox in one step and numbers in the next loses events when it is killed (control)', async () => {
    const accountId = await log.addAccount();
    const ids = await writeMixed(log, accountId, 10);
    await log.database.db.deleteFrom('fanfare.outbox').execute(); // and is killed here
    await untilStamped('heir');
    expect((await wholeLog(log.database, accountId)).length).toBeLessThan(ids.length);
  });
});

describeEmbeddedKills(['relay.checked', 'relay.stamped']);
