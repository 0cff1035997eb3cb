import { afterAll, beforeAll, expect, it } from 'vitest';
import { openSharingRuns, type SharingRuns } from '../support/sharing-runs.ts';

let runs: SharingRuns;
beforeAll(async () => {
  runs = await openSharingRuns();
});
afterAll(() => runs.stop());

it('180 random subscriptions of random principals get what each gets alone, over WebSocket and SSE', async () => {
  await runs.check(180);
}, 60_000);

it('a key of document and variables alone would have mixed some of them (negative control)', () => {
  expect(runs.countLeaks()).toBeGreaterThan(0);
});
