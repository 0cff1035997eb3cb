import { expect, it } from 'vitest';
import { killEmbedded } from '../support/kill-embedded.ts';

it('has every acknowledged change and its event after 4 kills of the embedded process', async () => {
  const { acknowledged } = await killEmbedded({ times: 4, seed: 1 });
  expect(acknowledged).toBeGreaterThan(0);
}, 300_000);
