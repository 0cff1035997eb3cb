/** The time of day in ms with fractions, comparable with other processes of the machine. */
export interface WallClock {
  now(): number;
  /** How far it has gone wrong since it was set, in ms: call it when a measurement is over. */
  drift(): number;
}

/**
 * Sets a clock by the machine's: `Date.now()` counts whole milliseconds only, and `performance.timeOrigin` was taken once
 * and drifts since. Waits, busily, for the next tick: at most a millisecond. Good to some 0.01 ms.
 */
export function setWallClock(): WallClock {
  const offset = readOffset();
  return { now: () => performance.now() + offset, drift: () => readOffset() - offset };
}

function readOffset(): number {
  // an interruption between the tick and its reading makes the offset smaller: the largest of several is the truest
  return Math.max(...Array.from({ length: 5 }, offsetAtTick));
}

function offsetAtTick(): number {
  const before = Date.now();
  let tick = before;
  while (tick === before) tick = Date.now();
  return tick - performance.now();
}
