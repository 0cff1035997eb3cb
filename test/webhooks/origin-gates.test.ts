import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createOriginGates, type OriginGate } from '../../src/webhooks/origin-gates.ts';

const URL_A = 'https://a.example.com/1';

/** Wants so many, and goes on when it is resumed. */
interface Wanting {
  readonly name: string;
  left: number;
}

describe('the gate of an origin', () => {
  let begun: string[];
  const gateOf = new Map<Wanting, OriginGate<Wanting>>();

  function open(perSecond: number) {
    return createOriginGates<Wanting>({ perSecond, resume: ask });
  }
  function ask(wanting: Wanting): void {
    while (wanting.left > 0 && gateOf.get(wanting)?.admits(wanting)) {
      wanting.left -= 1;
      begun.push(wanting.name);
    }
  }
  function want(gate: OriginGate<Wanting>, name: string, left: number): Wanting {
    const wanting = { name, left };
    gateOf.set(wanting, gate);
    ask(wanting);
    return wanting;
  }

  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    begun = [];
    gateOf.clear();
  });
  afterEach(() => void vi.useRealTimers());

  it('lets a tenth of a second through at once, and its rate from then on, whether or not it was asked meanwhile', () => {
    const gate = open(100).join(URL_A);
    want(gate, 'a', 1_000);
    expect(begun).toHaveLength(10);
    vi.advanceTimersByTime(5_000);
    expect(begun.length).toBeGreaterThanOrEqual(10 + 500 - 1);
    expect(begun.length).toBeLessThanOrEqual(10 + 500);
    for (const wanting of gateOf.keys()) gate.forget(wanting);
    vi.advanceTimersByTime(60_000);
    begun = [];
    want(gate, 'b', 1_000);
    expect(begun).toHaveLength(10);
  });

  it('lets those in line through by turns, and nobody overtake them', () => {
    const gate = open(10).join(URL_A);
    want(gate, 'a', 4);
    want(gate, 'b', 2);
    want(gate, 'c', 1);
    expect(begun).toEqual(['a']);
    expect([...gate.waiting].map(({ name }) => name)).toEqual(['a', 'b', 'c']);
    vi.advanceTimersByTime(1_000);
    expect(begun).toEqual(['a', 'a', 'b', 'c', 'a', 'b', 'a']);
    expect(gate.waiting.size).toBe(0);
  });

  it('is the same for each URL of the origin, and for no other; who has left does not empty it', () => {
    const gates = open(100);
    const gate = gates.join(URL_A);
    const again = gates.join('https://A.example.com.:443/2');
    expect(again).toBe(gate);
    again.leave();
    expect(gates.join(URL_A)).toBe(gate);
    for (const url of ['http://a.example.com/', 'https://a.example.com:444/', 'https://b.example.com/'])
      expect(gates.join(url)).not.toBe(gate);
  });

  it('wakes nobody who no longer waits', () => {
    const gate = open(10).join(URL_A);
    want(gate, 'a', 1);
    const gone = want(gate, 'b', 1);
    gate.forget(gone);
    expect(vi.getTimerCount()).toBe(0);
    vi.advanceTimersByTime(10_000);
    expect(begun).toEqual(['a']);
  });

  it('puts off one after the other, as fast as it lets them through, for a minute at most', () => {
    const gate = open(10).join(URL_A);
    const delays = Array.from({ length: 1_000 }, () => gate.postpone());
    expect(delays.slice(0, 3)).toEqual([350, 450, 550]);
    expect(Math.max(...delays)).toBe(60_000);
    vi.advanceTimersByTime(120_000);
    expect(gate.postpone()).toBe(350); // what was put off is forgotten when its time is over
    expect(open(1).join(URL_A).room).toBe(1);
    expect(open(1_000).join(URL_A).room).toBe(250);
  });
});
