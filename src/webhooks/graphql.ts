import type { EngineTables } from '../database/tables.ts';
import { type EngineBuilder, erase } from '../graphql/builder.ts';
import { declareOwnEvents } from '../graphql/event-types.ts';
import { registryOf } from '../graphql/registry.ts';
import { declareAttempt } from './attempt-fields.ts';
import { addDeliveryChanges } from './delivery-changes.ts';
import { addDeliveryQueries, declareDelivery } from './delivery-fields.ts';
import { deliveryExhausted, WEBHOOK_EVENTS, webhookDisabled, webhookFailing, webhookRecovered } from './events.ts';
import { declareHeaders } from './header-fields.ts';
import { declareRetries } from './pace-fields.ts';
import { addReplayChanges } from './replay-changes.ts';
import { addReplayQueries, declareReplay } from './replay-fields.ts';
import { addWebhookChanges } from './webhook-changes.ts';
import { declareWebhook } from './webhook-fields.ts';

/** A builder that knows the engine's tables. */
export type WebhookBuilder = EngineBuilder<EngineTables>;

/** Adds webhooks, deliveries and replays to the graph: `domain.extend(addWebhookFields)`, then `provideFieldServices` per process. */
export function addWebhookFields(builder: EngineBuilder): void {
  const registry = registryOf(builder);
  // node() finds them by their prefixes
  registry.prefixes.set('Webhook', 'wh').set('Delivery', 'dlv').set('Replay', 'rpl');
  registry.entities.set('Webhook', { name: 'Webhook', table: 'fanfare.webhook', scope: READ });
  registry.entities.set('Delivery', { name: 'Delivery', table: 'fanfare.delivery_record', scope: READ });
  registry.entities.set('Replay', { name: 'Replay', table: 'fanfare.replay_state', scope: READ });
  registry.entities.set('Attempt', { name: 'Attempt', table: 'fanfare.attempt', scope: READ });
  for (const scope of [READ, WRITE]) registry.scopes.add(scope);

  const typed = builder as unknown as WebhookBuilder; // the same builder: the engine's tables are in every database
  const attempt = declareAttempt(typed);
  const delivery = declareDelivery(typed, attempt);
  addDeliveryQueries(typed, delivery);
  declareRetries(typed);
  declareHeaders(typed);
  const webhook = declareWebhook(typed, { delivery, attempt });
  addWebhookChanges(typed, webhook);
  addDeliveryChanges(typed, delivery);
  const replay = declareReplay(typed, delivery);
  addReplayQueries(typed, replay);
  addReplayChanges(typed, replay);
  addNotices(typed, { webhook, delivery });
}

interface Subjects {
  readonly webhook: ReturnType<typeof declareWebhook>;
  readonly delivery: ReturnType<typeof declareDelivery>;
}

/** The engine's own events, each with an edge to what it is about. */
function addNotices(builder: WebhookBuilder, { webhook, delivery }: Subjects): void {
  declareOwnEvents(erase(builder), WEBHOOK_EVENTS);
  for (const event of [webhookFailing, webhookDisabled, webhookRecovered]) {
    builder.objectField(builder.event(event), 'currentWebhook', (t) =>
      t.entity(webhook, { description: 'Current state: the webhook as it is when asked; null if it was deleted.' }),
    );
  }
  builder.objectField(builder.event(deliveryExhausted), 'currentDelivery', (t) =>
    t.entity(delivery, { description: 'Current state: the delivery as it is when asked; null past retention.' }),
  );
}

const READ = 'webhooks:read';
const WRITE = 'webhooks:write';
