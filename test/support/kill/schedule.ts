import { seeded } from '../kill-embedded.ts';

/**
 * How a victim is killed:
 *
 * - *steady*: while all others stand, the log moves and the load runs;
 * - *rush*: at the mark, whatever else is down or starting;
 * - *twice*: at the mark, and again while it is starting.
 */
export type Manner = 'steady' | 'rush' | 'twice';

export interface Kill<Victim extends string = string> {
  readonly victim: Victim;
  /** It happens when so many changes are acknowledged. */
  readonly mark: number;
  readonly manner: Manner;
  /** A number in [0, 1), for the moment of the second kill. */
  readonly lot: number;
}

export interface SchedulePlan<Victim extends string> {
  readonly seed: number;
  readonly kills: Readonly<Record<Victim, number>>;
  /** Acknowledgements that the whole load will get. */
  readonly changes: number;
}

/** The last marks leave some load for the kills that wait for others. */
const LAST_MARK = 0.7;

/**
 * Draws kills by lot: in order of their marks, the same for the same plan. The first kill of each victim is steady, so that
 * what it must show (a careless client that loses events meanwhile) does not hang on the lot; Redis is always killed steadily,
 * because no process starts without it.
 */
export function drawSchedule<Victim extends string>(plan: SchedulePlan<Victim>): Kill<Victim>[] {
  const random = seeded(plan.seed);
  // the keys of a record are what its type says
  const victims = (Object.keys(plan.kills) as Victim[]).flatMap((name) => Array<Victim>(plan.kills[name]).fill(name));
  const marks = victims.map(() => 1 + Math.floor(random() * plan.changes * LAST_MARK)).sort((a, b) => a - b);
  const met = new Set<Victim>();
  return shuffle(victims, random).map((victim, at) => {
    const isFirst = !met.has(victim);
    met.add(victim);
    const drawn = MANNERS[Math.floor(random() * MANNERS.length)] ?? 'steady';
    return { victim, mark: marks[at] ?? 1, manner: isFirst || victim === 'redis' ? 'steady' : drawn, lot: random() };
  });
}

const MANNERS: readonly Manner[] = ['steady', 'steady', 'rush', 'twice'];

function shuffle<T>(each: readonly T[], random: () => number): T[] {
  return each
    .map((one) => ({ one, rank: random() }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ one }) => one);
}
