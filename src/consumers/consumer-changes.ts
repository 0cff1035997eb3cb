import { EVENT_FILTER, toStoredFilter } from '../graphql/event-filter.ts';
import { resolveCursor } from '../outbox/place.ts';
import { ackConsumer, placeOfAck } from './ack.ts';
import { requireSight, SCOPE } from './consumer.ts';
import type { declareConsumer } from './consumer-fields.ts';
import type { ConsumerBuilder } from './graphql.ts';
import { checkName, createConsumer, deleteConsumer } from './registration.ts';

/** Adds what changes consumers. */
export function addConsumerChanges(builder: ConsumerBuilder, consumer: ReturnType<typeof declareConsumer>): void {
  builder.mutationField('consumerCreate', (t) =>
    t.change({
      scope: SCOPE,
      description:
        'Makes a consumer. One that has this name and filter already is given as it is, wherever it stands: call it at each start of a program.',
      args: {
        name: t.arg.string({ required: true, description: '1 to 100 of A-Z a-z 0-9 . _ -' }),
        filter: t.arg({ type: EVENT_FILTER, description: 'Which events it gives; left out: all.' }),
        startAfter: t.arg.string({
          description: 'A cursor: a new consumer begins behind it. Left out: with the next event.',
        }),
      },
      success: { consumer },
      prepare: async ({ name, filter: given, startAfter }, { engine, accountId, principal }) => {
        const filter = toStoredFilter(given);
        requireSight(engine.registry, principal, { filter, narrowing: principal.narrowing });
        checkName(name);
        return { filter, startAfter: startAfter ? await resolveCursor(engine, accountId, startAfter) : undefined };
      },
      run: async (tx, { name }, { principal: creator }, { filter, startAfter }) => ({
        consumer: await createConsumer(tx, { name, filter, startAfter, creator }),
      }),
    }),
  );
  builder.mutationField('consumerDelete', (t) =>
    t.change({
      scope: SCOPE,
      description: 'Ends a consumer. Polls that wait on it fail; what was polled can no longer be acked.',
      args: { name: t.arg.string({ required: true }) },
      success: { id: 'ID' },
      run: async (tx, { name }) => ({ id: await deleteConsumer(tx, name) }),
    }),
  );
  builder.mutationField('consumerAck', (t) =>
    t.change({
      scope: SCOPE,
      description:
        'Says that all events of a batch up to a cursor are done: nobody gets them again. What was done before stays so. A cursor ahead of everything that was polled, while no lease is open, skips ahead.',
      args: {
        name: t.arg.string({ required: true }),
        cursor: t.arg.string({ required: true, description: 'Of the batch, of one of its events, or of a change.' }),
      },
      success: { consumer },
      prepare: (args, context) => placeOfAck(context, args.cursor),
      run: async (tx, { name }, _context, position) => ({ consumer: await ackConsumer(tx, { name, position }) }),
    }),
  );
}
