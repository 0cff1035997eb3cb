import type { EngineTables } from '../database/tables.ts';
import { NODE } from '../graphql/base-types.ts';
import type { EngineContext } from '../graphql/context.ts';
import { EVENT_SELECTION } from '../graphql/event-filter.ts';
import { type declareDelivery, selectDeliveries } from './delivery-fields.ts';
import type { WebhookBuilder } from './graphql.ts';
import { REPLAY_STATUSES, type Replay } from './replay.ts';
import { isStorable } from './storable.ts';

/** The largest value of GraphQL's Int. */
const MAX_INT = 2_147_483_647;

/** Declares `Replay`. */
export function declareReplay(builder: WebhookBuilder, delivery: ReturnType<typeof declareDelivery>) {
  const status = builder.enumType('ReplayStatus', {
    description:
      'RUNNING: it gives birth to deliveries, or they are on their way. DONE: it has looked at all, and all are finished. CANCELLED: by `deliveriesReplayCancel`, or because the webhook was deleted. New values may be added: keep a default branch.',
    values: REPLAY_STATUSES,
  });
  const ref = builder.objectRef<Replay>('Replay');
  ref.implement({
    description: 'A range of the log on its way to a webhook once more, as deliveries of their own, oldest first.',
    interfaces: [NODE],
    extensions: { scope: 'webhooks:read' },
    fields: (t) => ({
      id: t.exposeID('id', { description: '`rpl_…`; the `fanfare-replay` of each of its requests.' }),
      webhookId: t.exposeID('webhook_id', { description: 'Also where the webhook was deleted.' }),
      status: t.field({ type: status, resolve: (row) => row.status }),
      reason: t.exposeString('reason', { nullable: true, description: 'Why it was cancelled.' }),
      startAfter: t.string({
        description: 'A cursor: the range begins behind it.',
        resolve: (row, _args, context) => cursorOf(context, row.after_position),
      }),
      until: t.string({
        description: 'The cursor of the last event of the range.',
        resolve: (row, _args, context) => cursorOf(context, row.to_position),
      }),
      lookedTo: t.string({
        description: 'A cursor: up to here it has looked.',
        resolve: (row, _args, context) => cursorOf(context, row.looked_to),
      }),
      filter: t.field({
        type: EVENT_SELECTION,
        description: 'On top of what the webhook itself asks for.',
        resolve: ({ filter }) => filter as never,
      }),
      missing: t.exposeBoolean('missing', { description: 'Only what had neither arrived nor was on its way.' }),
      ratePerSecond: t.float({
        nullable: true,
        description: 'First attempts a second at most. Null: as the webhook takes them.',
        resolve: ({ rate_limit }) => rate_limit,
      }),
      total: t.int({
        description: 'How many events of the log, of all kinds, the range has.',
        resolve: ({ after_position, to_position }) => toInt(to_position - after_position),
      }),
      looked: t.int({
        description: 'How many of them it has looked at.',
        resolve: ({ after_position, looked_to }) => toInt(looked_to - after_position),
      }),
      expired: t.int({
        description: 'How many of these retention had dropped before.',
        resolve: ({ expired }) => toInt(expired),
      }),
      created: t.int({ description: 'Deliveries born.', resolve: ({ created }) => toInt(created) }),
      estimated: t.int({
        nullable: true,
        description:
          'Deliveries that there will be, if it goes on as it has begun. Null before it has looked at anything.',
        resolve: estimate,
      }),
      pending: t.int({ description: 'Of these on their way.', resolve: (row) => toInt(countPending(row)) }),
      succeeded: t.int({ description: 'Arrived.', resolve: ({ succeeded }) => toInt(succeeded) }),
      exhausted: t.int({ description: 'Failed for good.', resolve: ({ exhausted }) => toInt(exhausted) }),
      cancelled: t.int({
        description: 'Cancelled, or dropped by retention before they arrived.',
        resolve: ({ cancelled }) => toInt(cancelled),
      }),
      renderFailed: t.int({
        description: 'The document gave errors for their events.',
        resolve: ({ render_failed }) => toInt(render_failed),
      }),
      createdBy: t.exposeString('created_by', { nullable: true }),
      createdAt: t.field({ type: 'DateTime', resolve: ({ created_at }) => created_at }),
      finishedAt: t.field({
        type: 'DateTime',
        nullable: true,
        description: 'When the last of its deliveries was finished.',
        resolve: ({ finished_at }) => finished_at,
      }),
      deliveries: t.page(delivery, {
        scope: 'webhooks:read',
        description: 'In the order of their births. One that was sent again by hand is of that run.',
        query: ({ read, accountId }, _args, { id }) => selectDeliveries(read, accountId, { run: id }),
      }),
    }),
  });
  return ref;
}

function cursorOf({ engine, accountId }: EngineContext<EngineTables>, position: number): string {
  return engine.cursors.encode(accountId, { kind: 'position', position });
}

function countPending({ created, succeeded, exhausted, cancelled, render_failed }: Replay): number {
  return created - succeeded - exhausted - cancelled - render_failed;
}

function estimate({ created, after_position, looked_to, to_position }: Replay): number | null {
  const looked = looked_to - after_position;
  return looked === 0 ? null : toInt(Math.round((created / looked) * (to_position - after_position)));
}

function toInt(count: number): number {
  return Math.min(Math.max(count, 0), MAX_INT);
}

/** Adds `replay` and `replays` to Query. */
export function addReplayQueries(builder: WebhookBuilder, ref: ReturnType<typeof declareReplay>): void {
  builder.queryField('replay', (t) =>
    t.field({
      type: ref,
      nullable: true,
      scope: 'webhooks:read',
      description: 'One replay by its id; null if there is none.',
      args: { id: t.arg.id({ required: true }) },
      resolve: async (_root, { id }, { loaders }) =>
        isStorable(id) ? ((await loaders.entity('Replay', id)) as Replay | null) : null,
    }),
  );
  builder.queryField('replays', (t) =>
    t.page(ref, {
      scope: 'webhooks:read',
      description: 'Replays, oldest first, until retention has passed since their end.',
      args: { webhookId: t.arg.id({ description: 'Of this webhook.' }) },
      query: ({ read, accountId }, { webhookId }) => {
        const replays = read.selectFrom('fanfare.replay_state').selectAll().where('account_id', '=', accountId);
        if (webhookId === null || webhookId === undefined) return replays;
        return replays.where('webhook_id', '=', isStorable(webhookId) ? webhookId : '');
      },
    }),
  );
}
