import { createHash } from 'node:crypto';

/** One event of the log, as the database has it. */
export interface LoggedEvent {
  readonly position: number;
  readonly id: string;
  readonly name: string;
  readonly subjectId: string;
}

/** What a reader got, in the order of arrival; small enough to be sent by hundreds of readers of a long log. */
export interface Record {
  readonly positions: Int32Array;
  /** Over positions and ids. */
  readonly digest: string;
}

export interface Recorder {
  note(event: { readonly position: number | string; readonly id: string }): void;
  readonly count: number;
  /** The newest position; 0 before the first. */
  readonly last: number;
  read(): Record;
}

export function createRecorder(): Recorder {
  const positions: number[] = [];
  const hash = createHash('sha256');
  return {
    note({ position, id }) {
      positions.push(Number(position));
      hash.update(`${position} ${id}\n`);
    },
    get count() {
      return positions.length;
    },
    get last() {
      return positions.at(-1) ?? 0;
    },
    read: () => ({ positions: Int32Array.from(positions), digest: hash.copy().digest('hex') }),
  };
}

/** The record of a reader who got exactly these, once each, in their order. */
export function recordOf(events: readonly LoggedEvent[]): Record {
  const recorder = createRecorder();
  for (const event of events) recorder.note(event);
  return recorder.read();
}

export interface RecordFaults {
  /** Positions that never came. */
  readonly lost: readonly number[];
  /** Positions that came again. */
  readonly repeated: readonly number[];
  /** Positions that were not meant for it. */
  readonly stray: readonly number[];
  /** Positions that came behind a greater one, for the first time. */
  readonly late: readonly number[];
  /** The positions are right, the ids are not. */
  readonly hasOtherIds: boolean;
}

/** How a record differs from what it has to be. @returns undefined if it does not */
export function compareRecords(found: Record, expected: Record): RecordFaults | undefined {
  if (found.digest === expected.digest) return undefined;
  const wanted = new Set(expected.positions);
  const met = new Set<number>();
  const faults = { repeated: [] as number[], stray: [] as number[], late: [] as number[] };
  let greatest = 0;
  for (const position of found.positions) {
    if (met.has(position)) faults.repeated.push(position);
    else if (!wanted.has(position)) faults.stray.push(position);
    else if (position < greatest) faults.late.push(position);
    met.add(position);
    greatest = Math.max(greatest, position);
  }
  const lost = [...expected.positions].filter((position) => !met.has(position));
  const count = lost.length + faults.repeated.length + faults.stray.length + faults.late.length;
  return { lost, ...faults, hasOtherIds: count === 0 };
}
