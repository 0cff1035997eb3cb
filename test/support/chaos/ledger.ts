import type { LoggedEvent } from './record.ts';

/** What writers were told. */
export interface Ledger {
  /** Ids of events whose transaction was committed. */
  readonly emitted: Set<string>;
  /** Ids of events whose transaction was rolled back. */
  readonly rolledBack: Set<string>;
  /** By idempotency key, the ids of subjects that mutations made: one `product.created` each. */
  readonly created: Map<string, string>;
}

export function createLedger(): Ledger {
  return { emitted: new Set(), rolledBack: new Set(), created: new Map() };
}

/** Where the log is not exactly what was acknowledged, once each, at positions 1, 2, 3 … @returns sentences; none if it is */
export function compareWithLog({ emitted, rolledBack, created }: Ledger, log: readonly LoggedEvent[]): string[] {
  const ids = new Set(log.map(({ id }) => id));
  const creations = new Set(log.flatMap(({ name, subjectId }) => (name === 'product.created' ? [subjectId] : [])));
  const subjects = new Set(created.values());
  const promised = emitted.size + created.size;
  return [
    ...[...emitted].filter((id) => !ids.has(id)).map((id) => `lost: the committed event ${id}`),
    ...[...created]
      .filter(([, subject]) => !creations.has(subject))
      .map(([key, subject]) => `lost: ${subject} of the acknowledged change ${key}`),
    ...[...rolledBack].filter((id) => ids.has(id)).map((id) => `stray: ${id}, which was rolled back`),
    ...log
      .filter(({ id, name, subjectId }) => !(name === 'product.created' ? subjects.has(subjectId) : emitted.has(id)))
      .map(({ id, name }) => `stray: ${name} ${id}, which nobody was told of`),
    ...log.flatMap(({ position }, at) =>
      position === at + 1 ? [] : [`gap: expected position ${at + 1}, found ${position}`],
    ),
    ...(ids.size === log.length ? [] : [`repeated: ${log.length} positions for ${ids.size} events`]),
    ...(promised === log.length ? [] : [`${promised} events were acknowledged, the log has ${log.length}`]),
  ];
}
