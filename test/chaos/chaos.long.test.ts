import { beforeAll, describe, expect, it } from 'vitest';
import { type ChaosRun, runChaos } from '../support/chaos/chaos-run.ts';
import { expectCarelessToFail, expectWhole } from '../support/chaos/expect-whole.ts';
import { planReaders } from '../support/chaos/plans.ts';
import { freezeLeader, killNode, killRedisClients, restartRedis, type Strike } from '../support/chaos/strikes.ts';

/** Some five minutes on two quiet cores. */
const BOUND_MS = 25 * 60_000;

/** A node every time; between them, in turn, everything else. */
function strikes(): Strike[] {
  const others = [
    ...[killRedisClients('pubsub'), restartRedis(), killRedisClients('normal'), freezeLeader()],
    ...[killRedisClients('pubsub'), restartRedis(), killRedisClients('normal'), freezeLeader()],
  ];
  return Array.from({ length: 24 }, (_, at) => [
    killNode(at),
    ...(at % 3 === 1 ? others.slice((at - 1) / 3, (at - 1) / 3 + 1) : []),
  ]).flat();
}

describe('two nodes and two relays, broken piece by piece under a long load', () => {
  let run: ChaosRun;

  beforeAll(async () => {
    run = await runChaos({
      seed: 2,
      events: 50_000,
      eventsPerSecond: 300,
      writers: 20,
      // most want a part: what they missed is replayed to each by itself, at some 20,000 events a second for all of a node
      readers: planReaders({
        'WebSocket all': 20,
        'SSE all': 12,
        'helper over WebSocket all': 4,
        'helper over SSE all': 4,
        'WebSocket stock': 55,
        'SSE stock': 35,
        'helper over SSE stock': 4,
        'WebSocket rare': 33,
        'SSE rare': 30,
        'helper over WebSocket rare': 3,
      }),
      processes: 3,
      consumers: ['all', 'stock', 'rare'],
      strikes: strikes(),
    });
    process.stdout.write(`${run.figures}\n`);
  }, BOUND_MS);

  it('keep every acknowledged event, and give each reader all it wants, once, in order', () => {
    expect(run.log.length).toBeGreaterThan(50_000);
    expectWhole(run);
  });

  it('lose or repeat events for those who read carelessly', () => {
    expectCarelessToFail(run);
  });
});
