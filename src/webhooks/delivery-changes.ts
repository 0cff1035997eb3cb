import { EVENT_TYPE } from '../graphql/base-types.ts';
import { EVENT_FILTER } from '../graphql/event-filter.ts';
import { pingWebhook, retryDelivery } from './deliveries.ts';
import type { declareDelivery } from './delivery-fields.ts';
import { dryRun } from './dry-run.ts';
import { fieldServices } from './field-services.ts';
import type { WebhookBuilder } from './graphql.ts';
import { DocumentInvalid } from './refusals.ts';
import type { RenderError } from './render.ts';

/** Adds what is done with deliveries: ping, retry, and a rendering without sending. */
export function addDeliveryChanges(builder: WebhookBuilder, delivery: ReturnType<typeof declareDelivery>): void {
  builder.mutationField('webhookPing', (t) =>
    t.change({
      scope: 'webhooks:write',
      description: 'Sends a signed `fanfare.ping`, once. It is a delivery like others: watch what becomes of it there.',
      args: { id: t.arg.id({ required: true }) },
      success: { delivery },
      run: async (tx, { id }) => ({ delivery: await pingWebhook(tx, id) }),
    }),
  );
  builder.mutationField('deliveryRetry', (t) =>
    t.change({
      scope: 'webhooks:write',
      description:
        'Sends a delivery again, with the same id: an open one now, a finished one by a whole new schedule. The bytes are the same, unless it had succeeded more than a day ago: then they are rendered anew.',
      args: { id: t.arg.id({ required: true }) },
      success: { delivery },
      run: async (tx, { id }) => ({ delivery: await retryDelivery(tx, id) }),
    }),
  );
  addDryRun(builder);
}

function addDryRun(builder: WebhookBuilder): void {
  const error = builder.objectRef<RenderError>('RenderError');
  error.implement({
    description: 'Why a document gave no body for an event.',
    fields: (t) => ({
      message: t.exposeString('message'),
      path: t.exposeString('path', { nullable: true, description: 'Where in the result.' }),
    }),
  });
  builder.mutationField('webhookDryRun', (t) =>
    t.change({
      scope: 'webhooks:write',
      description: 'Shows what a webhook made by this key would be sent. Sends and changes nothing.',
      args: {
        eventTypes: t.arg({ type: [EVENT_TYPE], description: 'Either these …' }),
        query: t.arg.string({ description: '… or a subscription document.' }),
        variables: t.arg({ type: 'JSON', description: 'Of the document.' }),
        filter: t.arg({ type: EVENT_FILTER, description: 'As in `webhookCreate`.' }),
        scopes: t.arg.stringList({ description: 'As in `webhookCreate`.' }),
        eventId: t.arg.id({ description: 'Left out: the newest event that such a webhook would get.' }),
      },
      success: {
        eventId: { type: 'ID', nullable: true, description: 'Null if there is no such event yet.' },
        body: {
          type: 'String',
          nullable: true,
          description: 'The bytes that would be sent; null where it has errors.',
        },
        errors: { type: [error], description: 'With any of these nothing is sent: RENDER_FAILED.' },
      },
      refusals: [DocumentInvalid],
      prepare: (args, context) => dryRun(context, fieldServices(context).documents, args),
      run: async (_tx, _args, _context, { errors, ...rendered }) => ({ ...rendered, errors: [...errors] }),
    }),
  );
}
