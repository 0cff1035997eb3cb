import { EngineError } from '../errors.ts';
import type { EventFilter } from '../outbox/filter.ts';
import { EVENT_TYPE } from './base-types.ts';
import type { EngineBuilder } from './builder.ts';

/** Values in one part of a filter; more is refused. */
export const MAX_FILTER_VALUES = 100;

interface FilterInput {
  readonly types?: readonly string[] | null;
  readonly subjects?: readonly string[] | null;
  readonly related?: readonly string[] | null;
  readonly changed?: readonly string[] | null;
}

/** Declares the input `EventFilter`. */
export function eventFilterInput(builder: EngineBuilder) {
  return builder.inputType('EventFilter', {
    description: 'Which events: each part that is given must hold, and a part holds if any of its values does.',
    fields: (t) => ({
      types: t.field({ type: [EVENT_TYPE], description: 'Types of events.' }),
      subjects: t.idList({ description: 'Ids of what the events are about.' }),
      related: t.idList({ description: 'Ids that the payload refers to, such as the customer of an order.' }),
      changed: t.stringList({ description: 'Names of changed fields; only updates have any.' }),
    }),
  });
}

/**
 * Turns a coerced `EventFilter` into the engine's filter.
 * @throws EngineError BAD_INPUT for more than 100 values in a part
 */
export function toEventFilter(value: unknown): EventFilter {
  // coerced by GraphQL against the input type above
  const input = (value ?? {}) as FilterInput;
  const filter: { -readonly [Part in keyof EventFilter]: EventFilter[Part] } = {};
  for (const part of ['types', 'subjects', 'related', 'changed'] as const) {
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
  return filter;
}
