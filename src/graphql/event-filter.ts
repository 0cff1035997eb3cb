import { EngineError } from '../errors.ts';
import { type EventFilter, FILTER_PARTS } from '../outbox/filter.ts';
import { EVENT_TYPE } from './base-types.ts';
import type { EngineBuilder } from './builder.ts';

/** Values in one part of a filter; more is refused. */
export const MAX_FILTER_VALUES = 100;

type FilterInput = { readonly [Part in keyof EventFilter]: readonly string[] | null };

/** The types below, by name, as in base-types.ts. */
export const EVENT_FILTER = 'EventFilter' as never;
export const EVENT_SELECTION = 'EventSelection' as never;

/** Declares the input `EventFilter`, and what shows one that is kept. */
export function declareEventFilter(builder: EngineBuilder) {
  declareSelection(builder);
  return builder.inputType('EventFilter', {
    description: 'Which events: each part that is given must hold, and a part holds if any of its values does.',
    fields: (t) => ({
      types: t.field({ type: [EVENT_TYPE], description: 'Types of events.' }),
      subjects: t.idList({ description: 'Ids of what the events are about.' }),
      related: t.idList({ description: 'Ids that the payload refers to, such as the customer of an order.' }),
      changed: t.stringList({ description: 'Names of changed fields; only updates have any.' }),
      triggers: t.stringList({
        description: 'Names of fields, too: an update passes if one of them changed; what is no update passes anyway.',
      }),
    }),
  });
}

function declareSelection(builder: EngineBuilder): void {
  builder.objectRef<EventFilter>('EventSelection').implement({
    description: 'An `EventFilter`, as it was given: a part that is null holds for all events.',
    fields: (t) => ({
      types: t.field({ type: [EVENT_TYPE], nullable: true, resolve: ({ types }) => (types ?? null) as never }),
      subjects: t.idList({ nullable: true, resolve: ({ subjects }) => (subjects ? [...subjects] : null) }),
      related: t.idList({ nullable: true, resolve: ({ related }) => (related ? [...related] : null) }),
      changed: t.stringList({ nullable: true, resolve: ({ changed }) => (changed ? [...changed] : null) }),
      triggers: t.stringList({ nullable: true, resolve: ({ triggers }) => (triggers ? [...triggers] : null) }),
    }),
  });
}

/**
 * Turns a coerced `EventFilter` into the engine's filter.
 * @param only the event that a field is of by itself
 * @throws EngineError BAD_INPUT for more than 100 values in a part, and for types where there is only one
 */
export function toEventFilter(value: unknown, only?: { readonly fieldName: string }): EventFilter {
  // coerced by GraphQL against the input type above
  const input = (value ?? {}) as FilterInput;
  const filter: { -readonly [Part in keyof EventFilter]: EventFilter[Part] } = {};
  for (const part of FILTER_PARTS) {
    const values = input[part];
    if (values === null || values === undefined) continue;
    if (values.length > MAX_FILTER_VALUES) {
      throw new EngineError(
        'BAD_INPUT',
        `filter.${part} has ${values.length} values; at most ${MAX_FILTER_VALUES} are allowed`,
      );
    }
    filter[part] = values;
  }
  if (only !== undefined && filter.types !== undefined)
    throw new EngineError(
      'BAD_INPUT',
      `"${only.fieldName}" is of one type: leave filter.types out, or ask for "events"`,
    );
  return filter;
}

/**
 * The same as rows keep it: the values of each part sorted, each once.
 * @throws EngineError BAD_INPUT for an empty part, which nothing would pass, and for characters that can't be stored
 */
export function toStoredFilter(value: unknown): EventFilter {
  const filter = toEventFilter(value);
  const parts = FILTER_PARTS.flatMap((part) => {
    const values = filter[part];
    if (values === undefined) return [];
    if (values.length === 0)
      throw new EngineError('BAD_INPUT', `filter.${part} is empty, so that no event would pass; leave it out`);
    if (!values.every((value) => value.isWellFormed() && !value.includes('\0')))
      throw new EngineError(
        'BAD_INPUT',
        `filter.${part} has a character that can't be stored: U+0000 or half a surrogate pair`,
      );
    return [[part, [...new Set(values)].sort()] as const];
  });
  return Object.fromEntries(parts);
}
