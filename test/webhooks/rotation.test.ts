import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RotationRun, rotateUnderLoad, type SignedRequest, verifies } from './rotation-run.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';

const ROTATIONS = 20;

let engine: WebhookEngine;
beforeAll(async () => {
  engine = await openWebhookEngine('postgres');
});
afterAll(() => engine?.close());

async function startWorkers() {
  const ending = new AbortController();
  const ended = [1, 2].map(() => engine.createWorker({ pollMs: 20 }).run(ending.signal));
  return async () => {
    ending.abort();
    await Promise.all(ended);
  };
}

describe('a secret rotated 20 times under load', () => {
  let run: RotationRun;

  beforeAll(async () => {
    run = await rotateUnderLoad(engine, { rotations: ROTATIONS, events: 20, startWorkers });
  });

  /** Requests that fail with the secret at this place. */
  const failing = (placeOf: (each: SignedRequest) => number) =>
    run.requests.filter((each) => !verifies(each.request, run.secrets[Math.max(placeOf(each), 0)] ?? ''));

  it('comes with each rotation, while requests are under way', () => {
    expect(new Set(run.secrets).size).toBe(ROTATIONS + 1);
    expect(run.requests).toHaveLength((ROTATIONS + 1) * 20);
  });

  it('signs what is written once its rotation has answered', () => {
    expect(failing(({ round }) => round)).toEqual([]);
  });

  it('signs along for who changes it later, or not yet', () => {
    expect(failing(() => 0)).toEqual([]);
  });

  it('has not signed what was on its way before: who changes it at the answer takes the one before, too', () => {
    const early = failing(({ known }) => known);
    process.stdout.write(`${early.length} of ${run.requests.length} were on their way at a rotation\n`);
    expect(early.every(({ round, known }) => round < known)).toBe(true);
    expect(failing(() => ROTATIONS).length).toBeGreaterThan(20 * 15);
  });
});

it('fails who has not changed it, where it has no grace (control)', async () => {
  const run = await rotateUnderLoad(engine, { rotations: 2, events: 20, graceSeconds: 0, startWorkers });
  const [first = ''] = run.secrets;
  const later = run.requests.filter(({ round }) => round > 0);
  expect(later.length).toBe(40);
  expect(later.filter(({ request }) => verifies(request, first))).toEqual([]);
});
