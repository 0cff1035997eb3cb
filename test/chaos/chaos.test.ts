import { beforeAll, describe, expect, it } from 'vitest';
import { type ChaosRun, runChaos } from '../support/chaos/chaos-run.ts';
import { expectCarelessToFail, expectWhole } from '../support/chaos/expect-whole.ts';
import { planReaders } from '../support/chaos/plans.ts';
import { freezeLeader, killNode, killRedisClients, restartRedis } from '../support/chaos/strikes.ts';

/** Some 15 s on two quiet cores. */
const BOUND_MS = 280_000;

describe('two nodes and two relays, broken piece by piece under load', () => {
  let run: ChaosRun;

  beforeAll(async () => {
    run = await runChaos({
      seed: 1,
      events: 1_200,
      eventsPerSecond: 250,
      writers: 5,
      readers: planReaders({
        'WebSocket all': 3,
        'SSE all': 2,
        'WebSocket stock': 2,
        'SSE stock': 1,
        'WebSocket rare': 1,
        'SSE rare': 1,
        'helper over WebSocket all': 1,
        'helper over SSE all': 1,
      }),
      processes: 1,
      consumers: ['all'],
      strikes: [killNode(0), killRedisClients('pubsub'), restartRedis(), killNode(1), freezeLeader()],
    });
    process.stdout.write(`${run.figures}\n`);
  }, BOUND_MS);

  it('keep every acknowledged event, and give each reader all it wants, once, in order', () => {
    expect(run.log.length).toBeGreaterThan(1_200);
    expectWhole(run);
  });

  it('lose or repeat events for those who read carelessly', () => {
    expectCarelessToFail(run);
  });
});
