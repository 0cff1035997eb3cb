/** One way of doing the work that is measured; gives what one round has shown. */
export type Side<T> = () => Promise<T>;

export interface Measured<T, B = T> {
  /** One for each round, in their order. */
  readonly subject: readonly T[];
  readonly baseline: readonly B[];
}

export interface RoundOptions<T, B = T> {
  readonly name: string;
  /** Counted rounds of each side; one more before them warms up and is not counted. */
  readonly rounds: number;
  readonly subject: Side<T>;
  readonly baseline: Side<B>;
}

/** Measures in turns, A/B/A/B …: what else the machine does meets both sides alike. Tells standard error how far it is. */
export async function interleave<T, B = T>(options: RoundOptions<T, B>): Promise<Measured<T, B>> {
  const { name, rounds, subject, baseline } = options;
  const measured: { subject: T[]; baseline: B[] } = { subject: [], baseline: [] };
  for (let round = 0; round <= rounds; round++) {
    process.stderr.write(`${name}: ${round === 0 ? 'warm-up' : `round ${round} of ${rounds}`}\n`);
    const pair = { subject: await subject(), baseline: await baseline() };
    if (round === 0) continue;
    measured.subject.push(pair.subject);
    measured.baseline.push(pair.baseline);
  }
  return measured;
}
