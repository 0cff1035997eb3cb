import type { Result } from './link.ts';
import type { OperationShape } from './operation.ts';

/** Two events with nothing in between, where the log has something. */
export interface Gap {
  readonly from: number;
  readonly to: number;
}

/** Knows what has come on one subscription, over all its connections. */
export interface Sequence {
  /** What this result is to those before it. Only a `new` one is remembered. */
  look(result: Result, cursor: string): 'new' | 'repeated' | Gap;
  /** Positions may have gaps from now on: not all events are for this key. */
  allowGaps(): void;
}

/** Cursors that are remembered where no position is selected. A server repeats, if ever, what it has sent just before. */
const MAX_CURSORS = 1_000;

/** Builds one: by position where that is selected, else by cursor. */
export function createSequence({ position: place, isUnfiltered }: OperationShape): Sequence {
  const cursors = new Set<string>();
  let last: number | undefined;
  let isGapless = isUnfiltered;

  function lookAtCursor(cursor: string): 'new' | 'repeated' {
    if (cursors.has(cursor)) return 'repeated';
    cursors.add(cursor);
    const [oldest] = cursors;
    if (oldest !== undefined && cursors.size > MAX_CURSORS) cursors.delete(oldest);
    return 'new';
  }

  return {
    look(result, cursor) {
      const position = place && positionIn(result, place);
      if (position === undefined) {
        last = undefined; // an event whose data could not be read: the next one can't be compared
        return lookAtCursor(cursor);
      }
      if (last !== undefined && position <= last) return 'repeated';
      if (last !== undefined && isGapless && position !== last + 1) return { from: last, to: position };
      last = position;
      return 'new';
    },
    allowGaps() {
      isGapless = false;
    },
  };
}

function positionIn({ data }: Result, { root, name }: NonNullable<OperationShape['position']>): number | undefined {
  // by the document's own shape; anything else reads as undefined
  const event = data?.[root] as Readonly<Record<string, unknown>> | null | undefined;
  const position = Number(event?.[name] ?? Number.NaN);
  return Number.isSafeInteger(position) ? position : undefined;
}
