import { afterAll, beforeAll, expect, it } from 'vitest';
import { openSnapshotShop, type SnapshotShop, type Way } from '../support/snapshot-follow.ts';

const ROUNDS = 3;

let shop: SnapshotShop;
beforeAll(async () => {
  shop = await openSnapshotShop();
});
afterAll(() => shop.stop());

const trials = (way: Way, count: number) => Array.from({ length: count }, () => way);

it('the state and what follows it, folded by subjectVersion, equal the database in 30 of 30 trials', async () => {
  for (let round = 0; round < ROUNDS; round++)
    expect(await shop.round(trials('right', 10))).toEqual(Array.from({ length: 10 }, () => true));
  expect(shop.written().changes).toBeGreaterThan(1_000);
});

it('a head that is read after the data, or a fold without the version rule, goes wrong (negative control)', async () => {
  for (const way of ['head after the data', 'without the version rule'] as const)
    expect(await shop.round(trials(way, 10)), way).toContain(false);
});
