import { EngineError } from '../../src/errors.ts';
import type { EngineBuilder } from '../../src/graphql/builder.ts';
import type { noteWritten } from './toy-domain.ts';

/** What `slow` waits for with the text "dawdle". */
export const dawdling = { until: Promise.resolve() };

/** Adds fields to an event that go wrong, each by a text of its own. */
export function addTroubles(builder: EngineBuilder, event: typeof noteWritten): void {
  // a domain's own type that lets anything pass, as an author may write it
  builder.scalarType('Careless' as never, { serialize: ((value: unknown) => value) as never });
  builder.objectFields(builder.event(event), (t) => ({
    fragile: t.string({
      nullable: true,
      description: 'Fails for the text "break", and at length for "rant".',
      resolve: ({ payload }) => {
        if (JSON.stringify(payload).includes('rant')) throw new EngineError('NOT_FOUND', `\0${'😤'.repeat(2_000)}`);
        if (JSON.stringify(payload).includes('break')) throw new EngineError('NOT_FOUND', 'broken on purpose');
        return 'whole';
      },
    }),
    slow: t.string({
      description: 'Waits for `dawdling` with the text "dawdle".',
      resolve: async ({ payload }) => {
        if (JSON.stringify(payload).includes('dawdle')) await dawdling.until;
        return 'done';
      },
    }),
    unprintable: t.field({
      type: 'Careless' as never,
      description: 'Of no JSON form with the text "explode".',
      resolve: ({ payload }) => (JSON.stringify(payload).includes('explode') ? { toJSON: explode } : 'whole') as never,
    }),
  }));
}

function explode(): never {
  throw new Error('exploded on purpose');
}
