import { expect, it } from 'vitest';
import { killEmbedded } from '../support/kill-embedded.ts';

it('has every acknowledged change and its event after 100 kills of the embedded process', async () => {
  const { acknowledged } = await killEmbedded({ times: 100, seed: 2 });
  expect(acknowledged).toBeGreaterThan(100);
}, 1_200_000);
