/** A request that a receiver accepted. */
export interface Acceptance {
  readonly deliveryId: string;
  readonly subjectId: string;
  readonly position: number;
}

/** An event that was accepted before another of its subject that stands before it. */
export interface Overtaking {
  readonly subjectId: string;
  readonly position: number;
  /** The one before, which came later. */
  readonly overtaken: number;
}

/** What is accepted again, because its sender did not hear of it, counts the first time. */
export function findOvertakings(accepted: readonly Acceptance[]): Overtaking[] {
  const known = new Set<string>();
  const highest = new Map<string, number>();
  return accepted.flatMap(({ deliveryId, subjectId, position }) => {
    if (known.has(deliveryId)) return [];
    known.add(deliveryId);
    const before = highest.get(subjectId) ?? 0;
    highest.set(subjectId, Math.max(before, position));
    return position > before ? [] : [{ subjectId, position: before, overtaken: position }];
  });
}

/** How many deliveries of each subject were accepted. */
export function countBySubject(accepted: readonly Acceptance[]): ReadonlyMap<string, number> {
  const firsts = new Map(accepted.map((each) => [each.deliveryId, each]));
  const groups = Map.groupBy(firsts.values(), ({ subjectId }) => subjectId);
  return new Map([...groups].map(([subjectId, each]) => [subjectId, each.length]));
}
