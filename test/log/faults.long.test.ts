import { describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { type LogDatabase, openLog, wholeLog } from '../support/log-database.ts';
import { describeEmbeddedKills } from '../support/log-embedded-kills.ts';
import { expectStampedOnce, writeMixed } from '../support/log-faults.ts';
import { expectFaithfulLog, randomOf, runInterleaved } from '../support/log-interleaving.ts';
import { spawnLeader } from '../support/log-leader-process.ts';

describeEmbeddedKills(['relay.claimed', 'relay.checked', 'relay.stamped', 'relay.batch']);

describe('over many rounds on Postgres', () => {
  it.each([1, 2, 3, 4, 5])('64 interleaved transactions are numbered without gap, seed %i', async (seed) => {
    const log = await openLog('postgres', { maxConnections: 70 });
    const run = await runInterleaved(log, { seed: seed * 1_000, writers: 64, transactionsEach: 40 });
    await expectFaithfulLog(log.database, run);
    expect(run.seenByCursor).toEqual(run.logged);
    expect(run.lostBySerialId).toBeGreaterThan(0);
    await log.close();
  });

  it('leaders that are frozen and killed at random, while events are written, stamp each once', async () => {
    const log = await openLog('postgres');
    const accountId = await log.addAccount();
    const random = randomOf(7);
    const spawn = (owner: string) => spawnLeader({ url: log.url, owner, leaseMs: 300 });
    let [first, second] = [spawn('first'), spawn('second')];
    const ids: string[] = [];
    for (let round = 0; round < 30; round++) {
      const written = writeMixed(log, accountId, 40);
      const seen = first.observed.length + Math.floor(random() * 6);
      await eventually(() => first.observed.length > seen, { deadlineMs: 2_000 }).catch(() => {}); // it may hold nothing to do
      if (random() < 0.5) {
        await first.freeze();
        ids.push(...(await written));
        await untilAllStamped(log, accountId, ids.length); // by the second
        first.thaw();
      } else {
        await first.kill();
        ids.push(...(await written));
        first = spawn(`next_${round}`);
      }
      [first, second] = [second, first];
    }
    await untilAllStamped(log, accountId, ids.length);
    await expectStampedOnce(log.database, accountId, ids);
    await first.stop();
    await second.stop();
    await log.close();
  });
});

async function untilAllStamped(log: LogDatabase, accountId: string, count: number): Promise<void> {
  await eventually(async () => (await wholeLog(log.database, accountId)).length === count, { deadlineMs: 20_000 });
}
