import { EVENT_TYPE, NODE } from '../graphql/base-types.ts';
import { EVENT_SELECTION } from '../graphql/event-filter.ts';
import { filterOf } from '../outbox/filter.ts';
import type { declareAttempt } from './attempt-fields.ts';
import { declareAttemptFilter, selectAttempts } from './attempt-filter.ts';
import { type declareDelivery, selectDeliveries } from './delivery-fields.ts';
import type { WebhookBuilder } from './graphql.ts';
import { CIRCUITS, circuitOf } from './health.ts';
import { declareOrder, ORDER_HELP, ORDERING, WHEN_EXHAUSTED } from './order-fields.ts';
import { RETRY } from './pace-fields.ts';
import { isStorable } from './storable.ts';
import { WEBHOOK_STATUSES, type Webhook } from './webhook.ts';

/** Declares `Webhook` and the queries `webhook` and `webhooks`. */
export function declareWebhook(
  builder: WebhookBuilder,
  {
    delivery,
    attempt,
  }: { readonly delivery: ReturnType<typeof declareDelivery>; readonly attempt: ReturnType<typeof declareAttempt> },
) {
  const attemptFilter = declareAttemptFilter(builder);
  declareOrder(builder);
  const status = builder.enumType('WebhookStatus', {
    description:
      'PAUSED: deliveries are born and wait. DISABLED: the receiver answered 410, they are parked. `webhookResume` leads out of both. New values may be added: keep a default branch.',
    values: WEBHOOK_STATUSES,
  });
  const circuit = builder.enumType('WebhookCircuit', {
    description:
      'CLOSED: it is sent to. OPEN: it is held, until `heldUntil`. HALF_OPEN: one delivery at a time tries whether it is back. New values may be added: keep a default branch.',
    values: CIRCUITS,
  });
  const ref = builder.objectRef<Webhook>('Webhook');
  ref.implement({
    description: 'A callback: events are sent to it as they happen, signed, and again until it answers 2xx.',
    interfaces: [NODE],
    extensions: { scope: 'webhooks:read' },
    fields: (t) => ({
      id: t.exposeID('id', { description: '`wh_…`; as who the webhook reads what it sends.' }),
      version: t.exposeInt('version', { description: 'Rises with each change. Pass it as `expectedVersion`.' }),
      url: t.exposeString('url'),
      description: t.exposeString('description'),
      metadata: t.field({ type: 'JSON', description: "The creator's own.", resolve: ({ metadata }) => metadata }),
      status: t.field({ type: status, resolve: (row) => row.status }),
      disabledReason: t.exposeString('disabled_reason', { nullable: true }),
      parkedReason: t.exposeString('parked_reason', {
        nullable: true,
        description: 'What has to be repaired before anything is sent, such as a document that is no longer valid.',
      }),
      eventTypes: t.field({
        type: [EVENT_TYPE],
        nullable: true,
        description: 'Each stands for its default document. Null with a document.',
        resolve: ({ event_types }) => event_types as never,
      }),
      query: t.exposeString('document', { nullable: true, description: 'Its subscription document.' }),
      variables: t.field({ type: 'JSON', resolve: ({ variables }) => variables }),
      filter: t.field({
        type: EVENT_SELECTION,
        description: 'Which events it gets, by its document or its types and filter.',
        resolve: (row) => filterOf(row) as never,
      }),
      retry: t.field({ type: RETRY, description: 'When a delivery is tried again.', resolve: (row) => row as never }),
      heldUntil: t.field({
        type: 'DateTime',
        nullable: true,
        description:
          'Until then nothing is sent: the receiver answered 429 or 503, or kept failing. Null if it is not held. `webhookResume` ends it.',
        resolve: ({ held_until }, _args, { engine }) =>
          held_until !== null && held_until.getTime() > engine.clock.now() ? held_until : null,
      }),
      circuit: t.field({
        type: circuit,
        description: 'Whether it is sent to, or only tried.',
        resolve: (row, _args, { engine }) => circuitOf(row, engine.clock.now()),
      }),
      maxInFlight: t.int({
        nullable: true,
        description: "Requests under way at once at most. Null: the server's own number.",
        resolve: ({ max_in_flight }) => max_in_flight,
      }),
      ratePerSecond: t.float({
        nullable: true,
        description: 'Requests a second at most. Null: no limit.',
        resolve: ({ rate_limit }) => rate_limit,
      }),
      ordering: t.field({ type: ORDERING, description: ORDER_HELP.ordering, resolve: (row) => row.ordering as never }),
      onExhausted: t.field({
        type: WHEN_EXHAUSTED,
        description: ORDER_HELP.onExhausted,
        resolve: (row) => row.on_exhausted as never,
      }),
      scopes: t.stringList({ description: 'What it was granted.', resolve: ({ scopes }) => scopes }),
      failures: t.exposeInt('failures', { description: 'Failed attempts since the last that succeeded.' }),
      createdBy: t.exposeString('created_by', { nullable: true }),
      createdAt: t.field({ type: 'DateTime', resolve: ({ created_at }) => created_at }),
      updatedAt: t.field({ type: 'DateTime', resolve: ({ updated_at }) => updated_at }),
      deliveries: t.page(delivery, {
        scope: 'webhooks:read',
        description: 'In the order of their births.',
        query: ({ read, accountId }, _args, { id }) => selectDeliveries(read, accountId, { webhookId: id }),
      }),
      attempts: t.page(attempt, {
        scope: 'webhooks:read',
        description: 'Requests that were made, in the order of their starts: `last: 20` gives the newest.',
        args: { filter: t.arg({ type: attemptFilter }) },
        query: ({ read, accountId }, { filter }, { id }) =>
          selectAttempts(read, { accountId, webhookId: id }, filter ?? {}),
      }),
    }),
  });
  builder.queryField('webhook', (t) =>
    t.field({
      type: ref,
      nullable: true,
      scope: 'webhooks:read',
      description: 'One webhook by its id; null if there is none.',
      args: { id: t.arg.id({ required: true }) },
      resolve: async (_root, { id }, { loaders }) =>
        isStorable(id) ? ((await loaders.entity('Webhook', id)) as Webhook | null) : null,
    }),
  );
  builder.queryField('webhooks', (t) =>
    t.page(ref, {
      scope: 'webhooks:read',
      description: 'All webhooks, oldest first.',
      query: ({ read, accountId }) =>
        read.selectFrom('fanfare.webhook').selectAll().where('account_id', '=', accountId),
    }),
  );
  return ref;
}
