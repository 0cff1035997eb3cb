import { expect, it } from 'vitest';
import { openSharingRuns } from '../support/sharing-runs.ts';

it('10,000 random subscriptions of random principals get what each gets alone, over WebSocket and SSE', async () => {
  const runs = await openSharingRuns();
  await runs.check(10_000);
  expect(runs.countLeaks()).toBeGreaterThan(0);
  await runs.stop();
}, 1_800_000);
