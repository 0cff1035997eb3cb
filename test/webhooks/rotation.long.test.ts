import { afterAll, beforeAll, expect, it } from 'vitest';
import { rotateUnderLoad, verifies } from './rotation-run.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';
import { AS_SHIPPED, databaseUrlOf, openFleet } from './worker-fleet.ts';

let engine: WebhookEngine;
beforeAll(async () => {
  engine = await openWebhookEngine('postgres');
});
afterAll(() => engine?.close());

it('verifies each of 10,000 requests of three processes with the new secret and with all before it, over 20 rotations', async () => {
  const fleet = openFleet(await databaseUrlOf(engine), { ...AS_SHIPPED, isQuiet: true });
  const { requests, secrets } = await rotateUnderLoad(engine, {
    rotations: 20,
    events: 500,
    startWorkers: async () => {
      await Promise.all([1, 2, 3].map(() => fleet.launch().started()));
      return fleet.close;
    },
  });
  expect(requests.length).toBe(21 * 500);
  const failing = requests.filter(({ request, round, known }) =>
    [0, known - 1, round].some((at) => !verifies(request, secrets[Math.max(at, 0)] ?? '')),
  );
  expect(failing).toEqual([]);
  const early = requests.filter(({ request, known }) => !verifies(request, secrets[known] ?? ''));
  process.stdout.write(`${early.length} of ${requests.length} were on their way at a rotation\n`);
  expect(early.every(({ round, known }) => round < known)).toBe(true);
});
