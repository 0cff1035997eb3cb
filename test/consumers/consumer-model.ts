/** One loan of a range; all its positions share it. */
interface Loan {
  isOver: boolean;
}

/** What has become of a position. */
type State = 'new' | 'done' | Loan;

interface Slot {
  readonly isWanted: boolean;
  state: State;
}

/** What a consumer must do, by a table that says of each single position what has become of it. */
export class ConsumerModel {
  readonly #start: number;
  readonly #wants: (isWritten: boolean) => boolean;
  readonly #slots: Slot[] = [];

  /** @param start the position behind which it begins, which is the head */
  constructor(start: number, wants: (isWritten: boolean) => boolean) {
    this.#start = start;
    this.#wants = wants;
  }

  write(pattern: readonly boolean[]): void {
    for (const isWritten of pattern) this.#slots.push({ isWanted: this.#wants(isWritten), state: 'new' });
  }

  /** A position from a bit before the start to a bit behind the head. */
  pick(at: number): number {
    return Math.max(this.#start - 1, 0) + (at % (this.#slots.length + 3));
  }

  /** The positions that a poll gives. */
  poll(first: number): number[] {
    for (;;) {
      const range = this.#nextRange();
      if (range.length === 0) return [];
      const wanted = range.filter((slot) => slot.isWanted).slice(0, first);
      if (wanted.length === 0) {
        for (const slot of range) slot.state = 'done';
        continue;
      }
      const last = wanted.length === first ? wanted.at(-1) : range.at(-1);
      const loan: Loan = { isOver: false };
      for (const slot of range) {
        slot.state = loan;
        if (slot === last) break;
      }
      return wanted.map((slot) => this.#positionOf(slot));
    }
  }

  /** @returns the code with which it fails, if it does */
  ack(position: number): string | undefined {
    if (position > this.#start + this.#slots.length) return 'INVALID_CURSOR';
    const acked = this.#slots[position - this.#start - 1];
    if (acked === undefined || acked.state === 'done') return undefined;
    const { state } = acked;
    if (state === 'new' && this.#slots.some((slot) => isLoan(slot.state) && !slot.state.isOver)) return 'CONFLICT';
    for (const slot of this.#slots) {
      if (state === 'new' || slot.state === state) slot.state = 'done';
      if (slot === acked) break;
    }
    return undefined;
  }

  expire(position: number): void {
    const state = this.#slots[position - this.#start - 1]?.state;
    if (state !== undefined && isLoan(state)) state.isOver = true;
  }

  expireAll(): void {
    for (const { state } of this.#slots) if (isLoan(state)) state.isOver = true;
  }

  /** What the graph shows of it. */
  view() {
    const done = this.#slots.findIndex(({ state }) => state !== 'done');
    const position = this.#start + (done < 0 ? this.#slots.length : done);
    const loans = Map.groupBy(
      this.#slots.filter(({ state }) => isLoan(state)),
      ({ state }) => state,
    );
    const leases = [...loans.values()].map((slots) => ({
      after: String(Math.min(...slots.map((slot) => this.#positionOf(slot))) - 1),
      to: String(Math.max(...slots.map((slot) => this.#positionOf(slot)))),
    }));
    return { position: String(position), behind: this.#start + this.#slots.length - position, leases };
  }

  /** What one poll may take from: the rest of the first loan that is over, else all that is new. */
  #nextRange(): Slot[] {
    const over = this.#slots.find(({ state }) => isLoan(state) && state.isOver)?.state ?? 'new';
    return this.#slots.filter(({ state }) => state === over);
  }

  #positionOf(slot: Slot): number {
    return this.#start + this.#slots.indexOf(slot) + 1;
  }
}

function isLoan(state: State): state is Loan {
  return typeof state === 'object';
}
