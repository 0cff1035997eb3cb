import { NODE } from '../graphql/base-types.ts';
import { EVENT_SELECTION } from '../graphql/event-filter.ts';
import { filterOf } from '../outbox/filter.ts';
import { type Consumer, SCOPE } from './consumer.ts';
import type { ConsumerBuilder } from './graphql.ts';
import { createLeaseLoader, type LeaseRow } from './lease-loader.ts';
import { createOldestLoader } from './oldest-loader.ts';
import { findConsumer } from './poll.ts';

/** The largest value of GraphQL's Int. */
const MAX_INT = 2_147_483_647;

/** Declares `Consumer`. */
export function declareConsumer(builder: ConsumerBuilder) {
  const lease = declareLease(builder);
  const loadLeases = createLeaseLoader();
  const loadOldest = createOldestLoader();
  const ref = builder.objectRef<Consumer>('Consumer');
  ref.implement({
    description: 'A named place in the log, for programs that fetch their events: they share it, and it stays.',
    interfaces: [NODE],
    extensions: { scope: SCOPE },
    fields: (t) => ({
      id: t.exposeID('id', { description: '`cns_…`' }),
      name: t.exposeString('name', { description: 'Unique in the account.' }),
      filter: t.field({
        type: EVENT_SELECTION,
        description: 'Which events it gives.',
        resolve: (consumer) => filterOf(consumer) as never,
      }),
      createdBy: t.exposeString('created_by', { nullable: true, description: 'The key that made it.' }),
      createdAt: t.field({ type: 'DateTime', resolve: ({ created_at }) => created_at }),
      position: t.string({
        description: 'Every event up to here is acked, or none that it wants.',
        resolve: ({ position }) => String(position),
      }),
      cursor: t.string({
        description: 'Of `position`: pass it as `after` to look at what is behind it without taking it.',
        resolve: ({ account_id, position }, _args, { engine }) =>
          engine.cursors.encode(account_id, { kind: 'position', position }),
      }),
      behind: t.int({
        description: 'How many events of the log, of all kinds, lie behind `position`.',
        resolve: (consumer) => countBehind(consumer.head - consumer.position),
      }),
      oldestWaitingAt: t.field({
        type: 'DateTime',
        nullable: true,
        description: 'When the first event behind `position`, of any kind, was captured; null if there is none.',
        resolve: (consumer, _args, context) => loadOldest(context, consumer),
      }),
      lagSeconds: t.int({
        description: 'How long that is ago; 0 if there is none.',
        resolve: async (consumer, _args, context) =>
          secondsSince(await loadOldest(context, consumer), context.engine.clock.now()),
      }),
      leases: t.field({
        type: [lease],
        description: 'What was polled and is not acked, in the order of the log; the first 100.',
        resolve: (consumer, _args, context) => loadLeases(context, consumer.id),
      }),
    }),
  });
  return ref;
}

function secondsSince(moment: Date | null, nowMs: number): number {
  return moment === null ? 0 : Math.max(Math.floor((nowMs - moment.getTime()) / 1_000), 0);
}

/** A count as GraphQL's Int can hold it. */
export function countBehind(events: number): number {
  return Math.min(Math.max(events, 0), MAX_INT);
}

function declareLease(builder: ConsumerBuilder) {
  const ref = builder.objectRef<LeaseRow>('ConsumerLease');
  ref.implement({
    description: 'A range of the log that a poll has got and nobody has acked.',
    fields: (t) => ({
      after: t.string({
        description: 'The position before its first event.',
        resolve: ({ from_position }) => String(from_position),
      }),
      to: t.string({ description: 'Its last position.', resolve: ({ to_position }) => String(to_position) }),
      until: t.field({
        type: 'DateTime',
        description: 'From then on the next poll gets it again.',
        resolve: ({ lease_until }) => lease_until,
      }),
      attempts: t.exposeInt('attempts', { description: 'How often it was polled, this time included.' }),
    }),
  });
  return ref;
}

/** Adds `consumer` and `consumers` to Query. */
export function addConsumerQueries(builder: ConsumerBuilder, ref: ReturnType<typeof declareConsumer>): void {
  builder.queryField('consumer', (t) =>
    t.field({
      type: ref,
      nullable: true,
      scope: SCOPE,
      description: 'One consumer by its name; null if there is none.',
      args: { name: t.arg.string({ required: true }) },
      resolve: async (_root, { name }, context) => (await findConsumer(context, name)) ?? null,
    }),
  );
  builder.queryField('consumers', (t) =>
    t.page(ref, {
      scope: SCOPE,
      description: 'All consumers, oldest first.',
      query: ({ read, accountId }) =>
        read.selectFrom('fanfare.consumer_state').selectAll().where('account_id', '=', accountId),
    }),
  );
}
