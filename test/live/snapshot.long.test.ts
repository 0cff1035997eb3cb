import { expect, it } from 'vitest';
import { openSnapshotShop } from '../support/snapshot-follow.ts';

const ROUNDS = 50;

it('the state and what follows it, folded by subjectVersion, equal the database in 1,000 of 1,000 trials', async () => {
  const shop = await openSnapshotShop();
  const equal: boolean[] = [];
  for (let round = 0; round < ROUNDS; round++)
    equal.push(...(await shop.round(Array.from({ length: 20 }, () => 'right' as const))));
  expect([equal.length, equal.filter(Boolean).length]).toEqual([1_000, 1_000]);
  const { changes, seconds } = shop.written();
  expect(changes / seconds).toBeGreaterThan(500);
  await shop.stop();
}, 900_000);
