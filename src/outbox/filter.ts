import { type Expression, type ExpressionBuilder, type SqlBool, sql } from 'kysely';
import type { EngineTables } from '../database/tables.ts';

/**
 * The closed algebra by which events are chosen, the same on every channel: each part that is present must hold, and
 * a part holds if any of its values does. An absent part holds always; an empty one never.
 */
export interface EventFilter {
  /** Wire names: `order.placed`. */
  readonly types?: readonly string[];
  /** Ids of subjects. */
  readonly subjects?: readonly string[];
  /** Ids that the event's `related` paths lead to. */
  readonly related?: readonly string[];
  /** Names of changed fields; a fact has none. */
  readonly changed?: readonly string[];
  /** As `changed` for updates; facts pass. */
  readonly triggers?: readonly string[];
}

/** The parts of a filter. */
export const FILTER_PARTS = ['types', 'subjects', 'related', 'changed', 'triggers'] as const;

/** A filter as rows keep it: null for a part that is absent. */
export type FilterColumns = { readonly [Part in keyof EventFilter]-?: string[] | null };

/** The filter that a row keeps. */
export function filterOf(columns: FilterColumns): EventFilter {
  return Object.fromEntries(
    FILTER_PARTS.flatMap((part) => {
      const values = columns[part];
      return values === null ? [] : [[part, values] as const];
    }),
  );
}

/** What a row keeps of a filter. */
export function filterColumns(filter: EventFilter): FilterColumns {
  const { types, subjects, related, changed, triggers } = filter;
  return {
    types: copyOf(types),
    subjects: copyOf(subjects),
    related: copyOf(related),
    changed: copyOf(changed),
    triggers: copyOf(triggers),
  };
}

function copyOf(values: readonly string[] | undefined): string[] | null {
  return values === undefined ? null : [...values];
}

/** What a filter looks at. */
export interface FilteredEvent {
  readonly name: string;
  readonly subjectId: string;
  readonly related: readonly string[];
  readonly changed: readonly string[];
}

/** Compiles filters, all of which must hold, to a predicate for live events. */
export function filterPredicate(filters: readonly EventFilter[]): (event: FilteredEvent) => boolean {
  const tests = filters.flatMap(predicates);
  return (event) => tests.every((holds) => holds(event));
}

function predicates(filter: EventFilter): ((event: FilteredEvent) => boolean)[] {
  const tests: ((event: FilteredEvent) => boolean)[] = [];
  if (filter.types) tests.push(includes(filter.types, (event) => event.name));
  if (filter.subjects) tests.push(includes(filter.subjects, (event) => event.subjectId));
  if (filter.related) tests.push(overlaps(filter.related, (event) => event.related));
  if (filter.changed) tests.push(overlaps(filter.changed, (event) => event.changed));
  if (filter.triggers) {
    const isTriggered = overlaps(filter.triggers, (event) => event.changed);
    tests.push((event) => event.changed.length === 0 || isTriggered(event));
  }
  return tests;
}

function includes(wanted: readonly string[], value: (event: FilteredEvent) => string) {
  const set = new Set(wanted);
  return (event: FilteredEvent) => set.has(value(event));
}

function overlaps(wanted: readonly string[], values: (event: FilteredEvent) => readonly string[]) {
  const set = new Set(wanted);
  return (event: FilteredEvent) => values(event).some((value) => set.has(value));
}

/** Compiles filters, all of which must hold, to SQL over rows of `fanfare.event as e`. */
export function filterSql(
  eb: ExpressionBuilder<{ e: EngineTables['fanfare.event'] }, 'e'>,
  filters: readonly EventFilter[],
): Expression<SqlBool> {
  return eb.and(
    filters
      .map(storable)
      .flatMap(({ types, subjects, related, changed, triggers }) => [
        ...(types ? [sql<SqlBool>`e.name = any(${types}::text[])`] : []),
        ...(subjects ? [sql<SqlBool>`e.subject_id = any(${subjects}::text[])`] : []),
        ...(related ? [sql<SqlBool>`e.related && ${related}::text[]`] : []),
        ...(changed ? [sql<SqlBool>`e.changed && ${changed}::text[]`] : []),
        ...(triggers ? [sql<SqlBool>`(e.changed = '{}' or e.changed && ${triggers}::text[])`] : []),
      ]),
  );
}

/** Without values that no row can hold: Postgres refuses U+0000, and half a surrogate pair would turn into U+FFFD. */
function storable(filter: EventFilter): EventFilter {
  const parts = Object.entries(filter).map(([part, values]: [string, readonly string[] | undefined]) => [
    part,
    values?.filter((value) => value.isWellFormed() && !value.includes('\0')),
  ]);
  return Object.fromEntries(parts);
}

/** One text for equal filters, whatever the order and repetition of their values: for keys of shared work. */
export function filterKey(filters: readonly EventFilter[]): string {
  const parts = filters.map((filter) =>
    FILTER_PARTS.map((part) => (filter[part] ? [...new Set(filter[part])].sort() : null)),
  );
  return JSON.stringify(parts);
}

/** Whether every event passes. */
export function isEmpty(filter: EventFilter): boolean {
  return FILTER_PARTS.every((part) => filter[part] === undefined);
}

/** Whether all that passes the filters `inner` surely passes `outer`: each of the outer ones is one of the inner. */
export function isWithin(inner: readonly EventFilter[], outer: readonly EventFilter[]): boolean {
  const held = new Set(inner.map((filter) => filterKey([filter])));
  return outer.every((filter) => held.has(filterKey([filter])));
}
