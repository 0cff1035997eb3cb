import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openPglite } from '../../src/database/connect.ts';
import { syncEventTypes } from '../../src/outbox/catalog.ts';
import { createEmbeddedFolder } from './database.ts';
import { wrapLog } from './log-database.ts';
import { logCatalog } from './log-domain.ts';
import { expectStampedOnce, parkedOf, writeMixed } from './log-faults.ts';
import { spawnLeader } from './log-leader-process.ts';
import { stampAll } from './log-sequencer.ts';

/** `kill -9` of a process that holds a PGlite, at each of these observations; then the folder is opened again. */
export function describeEmbeddedKills(steps: readonly string[]): void {
  describe('a leader on PGlite', () => {
    it.each(steps)('killed at %s leaves everything to be stamped exactly once', async (name) => {
      const folder = await createEmbeddedFolder();
      const dataDir = join(folder.dataDir, 'pglite');
      const open = async () => {
        const database = await openPglite({ dataDir });
        await syncEventTypes(database, logCatalog);
        return database;
      };
      const before = await open();
      const log = wrapLog(before);
      const accountId = await log.addAccount();
      const ids = await writeMixed(log, accountId, 20);
      await before.close();

      const plan = { dataDir, owner: 'killed', leaseMs: 60_000, signalAt: { name, signal: 'SIGKILL' } } as const;
      expect(await spawnLeader(plan).ended).toBe('SIGKILL');

      const after = await open();
      await stampAll(after, { steal: true });
      await expectStampedOnce(after, accountId, ids);
      const { count } = await after.db
        .selectFrom('fanfare.parked')
        .select(({ fn }) => fn.countAll<number>().as('count'))
        .executeTakeFirstOrThrow();
      expect(count).toBe(parkedOf(20));
      await after.close();
      await folder.remove();
    });
  });
}
