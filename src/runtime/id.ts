import { randomBytes } from 'node:crypto';

/**
 * Makes a prefixed, time-ordered id: `order_` + 12 hex digits of Unix milliseconds + 20 random hex digits (80 bits).
 * Ids made later sort later under `collate "C"`, to the millisecond. `fanfare.new_id` in SQL makes the same form.
 */
export function newId(prefix: string, nowMs: number = Date.now()): string {
  return `${prefix}_${nowMs.toString(16).padStart(12, '0')}${randomBytes(10).toString('hex')}`;
}

/** What no id of this moment or a later one sorts before, and each earlier one does. */
export function firstIdAt(prefix: string, at: Date): string {
  return `${prefix}_${Math.max(0, Math.ceil(at.getTime())).toString(16).padStart(12, '0')}`;
}

/** The prefix of an id (`order` of `order_0193…`), or undefined if the text is not of an id's form. */
export function idPrefix(id: string): string | undefined {
  return /^([a-z][a-z0-9]*)_[0-9a-z]+$/.exec(id)?.[1];
}

/** The moment inside an id, or undefined if the text is not of an id's form. */
export function idTime(id: string): Date | undefined {
  const hex = /^[a-z][a-z0-9]*_([0-9a-f]{12})[0-9a-f]{20}$/.exec(id)?.[1];
  return hex === undefined ? undefined : new Date(Number.parseInt(hex, 16));
}
