import { afterAll, beforeAll, expect, it } from 'vitest';
import { rotateUnderLoad, verifies } from './rotation-run.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';
import { AS_SHIPPED, databaseUrlOf, openFleet } from './worker-fleet.ts';

let engine: WebhookEngine;
beforeAll(async () => {
  engine = await openWebhookEngine('postgres');
});
afterAll(() => engine?.close());

const EVENTS = 1_500;

it('verifies each of 30,000 requests of three processes with the newest secret that is a second old and with all before it, over 20 rotations', async () => {
  const fleet = openFleet(await databaseUrlOf(engine), { ...AS_SHIPPED, isQuiet: true });
  const { requests, secrets } = await rotateUnderLoad(engine, {
    rotations: 20,
    events: EVENTS,
    startWorkers: async () => {
      await Promise.all([1, 2, 3].map(() => fleet.launch().started()));
      return fleet.close;
    },
  });
  expect(requests.length).toBe(21 * EVENTS);
  const failing = requests.filter(({ request, round, settled }) =>
    [0, settled, round].some((at) => !verifies(request, secrets[at] ?? '')),
  );
  expect(failing).toEqual([]);
  // the run is so long that a secret that comes in late would be found
  expect(Math.max(...requests.map(({ settled }) => settled))).toBeGreaterThan(10);
  const early = requests.filter(({ request, known }) => !verifies(request, secrets[known] ?? ''));
  process.stdout.write(`${early.length} of ${requests.length} were on their way at a rotation\n`);
  expect(early.every(({ round, known }) => round < known)).toBe(true);
});
