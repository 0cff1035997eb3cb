import { describe, expect, it } from 'vitest';
import { prune } from '../../src/outbox/prune.ts';
import type { Observation } from '../../src/runtime/observe.ts';
import { openLog } from '../support/log-database.ts';
import { describeRetention } from '../support/log-retention.ts';
import { withClient } from '../support/postgres-client.ts';

const DAY_MS = 86_400_000;

describeRetention('postgres', { isLong: true });
describeRetention('pglite', { isLong: false });

describe('retention beside a reader that goes on and on (Postgres)', () => {
  it('leaves what is locked for the next call, and does not wait for it', async () => {
    const log = await openLog('postgres');
    const observed: Observation[] = [];
    const pruneNow = () => prune(log.database, { retentionDays: 7 }, (observation) => observed.push(observation));
    await log.advanceClock(10 * DAY_MS);
    await withClient(log.url, async (dump) => {
      await dump.query('begin');
      await dump.query('select count(*) from fanfare.log');
      await pruneNow();
      await dump.query('commit');
    });
    await pruneNow();
    expect(observed[0]?.dropped).not.toContainEqual(expect.stringMatching(/^log/));
    // those of the table that was locked; the first call made the others'
    expect([observed[0]?.made, observed[1]?.made]).toEqual([40, 10]);
    expect(observed[1]?.dropped).toContainEqual(expect.stringMatching(/^log/));
    await log.close();
  });
});
