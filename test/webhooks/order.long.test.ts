import { afterAll, beforeAll, describe, it } from 'vitest';
import { expectOnlyItsOwn, expectOrder, expectOvertakings, orderedWebhooks } from './order-expect.ts';
import { type OrderRun, runInOrder } from './order-run.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';
import { AS_SHIPPED, databaseUrlOf, openFleet } from './worker-fleet.ts';

const SIZE = { subjects: 100, perSubject: 1_000, fewSubjects: 10 };

describe('within each of 100 subjects, from three processes to a receiver that fails one in ten,', () => {
  let engine: WebhookEngine;
  let run: OrderRun;

  beforeAll(async () => {
    engine = await openWebhookEngine('postgres');
    const fleet = openFleet(await databaseUrlOf(engine), { ...AS_SHIPPED, isQuiet: true });
    const startedAtMs = performance.now();
    run = await runInOrder(engine, {
      seed: 2,
      ...SIZE,
      webhooks: orderedWebhooks(SIZE),
      startWorkers: async () => {
        for (let n = 0; n < 3; n++) fleet.launch();
        return fleet.close;
      },
    });
    process.stdout.write(`accepted in order after ${Math.round((performance.now() - startedAtMs) / 1_000)} s\n`);
  }, 1_800_000);
  afterAll(() => engine?.close());

  it('1,000 events of an ordered webhook are accepted in the order of the log', () => {
    expectOrder(run, SIZE);
  });

  it('events of another overtake each other (control)', () => {
    expectOvertakings(run, SIZE);
  });

  it('an event that is never accepted holds up its own subject only', () => {
    expectOnlyItsOwn(run, SIZE);
  });
});
