import { idTime } from '../runtime/id.ts';

/** The time in which some events occurred, both ends included. */
export interface Occurrence {
  readonly first: Date;
  readonly last: Date;
}

/**
 * When events occurred, as their ids tell (`fanfare.append` makes id and `occurred_at` of one moment). A statement bounded by
 * it is planned over the partitions of these days instead of all: 0.07 ms against 1.7 for the event of one delivery.
 * @returns undefined if there are none, or one is no event's id: then nothing is known
 */
export function occurrenceOf(eventIds: readonly (string | null)[]): Occurrence | undefined {
  const times = eventIds.map((id) => (id === null ? undefined : idTime(id)?.getTime()));
  const known = times.filter((time) => time !== undefined);
  if (known.length === 0 || known.length < times.length) return undefined;
  return { first: new Date(Math.min(...known)), last: new Date(Math.max(...known)) };
}
