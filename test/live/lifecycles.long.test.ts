import { expect, it } from 'vitest';
import { startApp } from '../support/app.ts';
import { liveQuietly, takeStock } from '../support/lifecycle-runs.ts';
import { createProbeDomain } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';

it('leaves nothing behind when 100,000 subscriptions come and go without an event', async () => {
  const { domain } = createProbeDomain();
  const app = await startApp({ backend: 'postgres and redis', domain, domainMigrations: toyMigrations });
  await liveQuietly(app, 2_000);
  const before = await takeStock(app);
  await liveQuietly(app, 100_000);
  const after = await takeStock(app);
  // 50 bytes for each: no object is that small
  expect(after.heapBytes - before.heapBytes).toBeLessThan(100_000 * 50);
  // each idle connection of a pool has a timer
  for (const [kind, count] of Object.entries(after.resources))
    expect(count, kind).toBeLessThanOrEqual((before.resources[kind] ?? 0) + 20);
  await app.stop();
}, 1_800_000);
