import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findOvertakings } from './order-check.ts';
import { expectOnlyItsOwn, expectOrder, expectOvertakings, orderedWebhooks } from './order-expect.ts';
import { type OrderRun, runInOrder } from './order-run.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';

const SIZE = { subjects: 20, perSubject: 20, fewSubjects: 5 };

describe('within a subject, from three workers to a receiver that fails one in ten,', () => {
  let engine: WebhookEngine;
  let run: OrderRun;

  beforeAll(async () => {
    engine = await openWebhookEngine('postgres');
    run = await runInOrder(engine, {
      seed: 1,
      ...SIZE,
      webhooks: orderedWebhooks(SIZE),
      isHurried: true,
      startWorkers: async () => {
        const ending = new AbortController();
        const ended = Array.from({ length: 3 }, () => engine.createWorker({ pollMs: 20 }).run(ending.signal));
        return async () => {
          ending.abort();
          await Promise.all(ended);
        };
      },
    });
  });
  afterAll(() => engine?.close());

  it('events of an ordered webhook are accepted in the order of the log', () => {
    expectOrder(run, SIZE);
  });

  it('events of another overtake each other (control)', () => {
    expectOvertakings(run, SIZE);
  });

  it('an event that is never accepted holds up its own subject only', () => {
    expectOnlyItsOwn(run, SIZE);
  });
});

it('an overtaking is one of the same subject, by the first acceptance', () => {
  const accepted = (...positions: readonly number[]) =>
    positions.map((position) => ({ deliveryId: `dlv_${position}`, subjectId: `note_${position % 2}`, position }));
  expect(findOvertakings(accepted(2, 1, 4, 3, 2, 6, 5))).toEqual([]);
  expect(findOvertakings(accepted(1, 5, 2, 3))).toEqual([{ subjectId: 'note_1', position: 5, overtaken: 3 }]);
});
