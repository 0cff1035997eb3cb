import { describe, expect, it } from 'vitest';
import { createGathering } from '../../src/webhooks/gathering.ts';

describe('the wakeups of a worker', () => {
  /** A clock whose waits end when the test says so. */
  function openGathering({ lastClaimAtMs = 0 } = {}) {
    let woken = 0;
    const waits: (() => void)[] = [];
    const gathering = createGathering({
      clock: { wait: () => new Promise((resolve) => waits.push(resolve)) },
      wakeup: { wake: () => void woken++ },
      lastClaimAtMs: () => lastClaimAtMs,
    });
    const passTime = async () => {
      for (const end of waits.splice(0)) end();
      await Promise.resolve();
    };
    return { ...gathering, passTime, woken: () => woken, waits: () => waits.length };
  }

  it('make one of a swarm of ends', async () => {
    const { wakeSoon, passTime, woken, waits } = openGathering();
    for (let at = 0; at < 3; at++) wakeSoon();
    expect([woken(), waits()]).toEqual([0, 1]);
    await passTime();
    expect(woken()).toBe(1);
    wakeSoon();
    await passTime();
    expect(woken()).toBe(2);
  });

  it('come at once when the last claim is long ago', () => {
    const { wake, woken, waits } = openGathering({ lastClaimAtMs: performance.now() - 1_000 });
    wake();
    expect([woken(), waits()]).toEqual([1, 0]);
  });

  it('come together when the last claim was just now', async () => {
    const { wake, passTime, woken, waits } = openGathering({ lastClaimAtMs: performance.now() + 1_000 });
    for (let at = 0; at < 3; at++) wake();
    expect([woken(), waits()]).toEqual([0, 1]);
    await passTime();
    expect(woken()).toBe(1);
  });

  it('come once for all that is to be looked for later, and beside the others', async () => {
    const { wakeIn, wakeSoon, passTime, woken, waits } = openGathering();
    for (let at = 0; at < 3; at++) wakeIn(50);
    wakeSoon();
    expect([woken(), waits()]).toEqual([0, 2]);
    await passTime();
    expect(woken()).toBe(2);
  });
});
