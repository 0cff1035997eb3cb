import { z } from 'zod';
import { defineEvent } from '../outbox/event.ts';
import { id, snapshot } from '../outbox/payload.ts';

/** Without the URL, which may hold a secret of its receiver: these facts go out to other receivers. */
const WebhookSnapshot = snapshot('WebhookSnapshot', { webhookId: id('Webhook'), description: z.string() });

const LAST_FAILURE = {
  lastStatusCode: z.int32().describe('Of the last attempt; null if there was no response.').nullable(),
  lastErrorClass: z
    .string()
    .describe('At which stage the last attempt failed, such as `DNS`, `TIMEOUT` or `HTTP_STATUS`.')
    .nullable(),
};

const ABOUT_WEBHOOK = {
  kind: 'fact',
  version: 1,
  subject: 'Webhook',
  scope: 'webhooks:read',
  related: [],
} as const;

/** Once for all failures in a row. */
export const webhookFailing = defineEvent('webhook.failing', {
  ...ABOUT_WEBHOOK,
  payload: {
    webhook: WebhookSnapshot,
    failures: z.int32().describe('Failed attempts in a row.'),
    failingSince: z.iso.datetime().describe('Of the first of them.').nullable(), // as in the others: fields of one name can't differ
    ...LAST_FAILURE,
  },
  description: 'Five attempts of a webhook have failed in a row. Told once for all failures until one succeeds.',
});

/** Once for each time that it becomes `DISABLED`. */
export const webhookDisabled = defineEvent('webhook.disabled', {
  ...ABOUT_WEBHOOK,
  payload: {
    webhook: WebhookSnapshot,
    disabledReason: z.string().describe('As in `Webhook`.'),
    failures: z.int32().describe('Failed attempts in a row.'),
    failingSince: z.iso.datetime().describe('Of the first of them.').nullable(),
    ...LAST_FAILURE,
  },
  description:
    'A webhook is not sent to any more: its receiver answered 410, or for five days nothing came but failures. `webhookResume` leads out.',
});

/** Takes back what the two above have told. */
export const webhookRecovered = defineEvent('webhook.recovered', {
  ...ABOUT_WEBHOOK,
  payload: {
    webhook: WebhookSnapshot,
    failingSince: z.iso
      .datetime()
      .describe('When what is over now began; null if it was resumed or got another URL meanwhile.')
      .nullable(),
  },
  description: 'The first attempt that succeeded after `webhook.failing` or `webhook.disabled`.',
});

const DeliverySnapshot = snapshot('DeliverySnapshot', {
  deliveryId: id('Delivery'),
  webhookId: id('Webhook'),
  eventId: id('Event'),
  eventName: z.string().describe('Null where the event is past retention.').nullable(),
  attempts: z.int32().describe('Attempts ever made.'),
});

/** Not for pings, nor for deliveries of the engine's own events: a receiver that is away would be told for ever. */
export const deliveryExhausted = defineEvent('delivery.exhausted', {
  kind: 'fact',
  version: 1,
  subject: 'Delivery',
  scope: 'webhooks:read',
  related: ['delivery.webhookId', 'delivery.eventId'],
  payload: { delivery: DeliverySnapshot, ...LAST_FAILURE },
  description:
    'A delivery has used up its attempts: its event did not arrive. `deliveryRetry` begins anew. Not told of deliveries of events about webhooks and deliveries.',
});

/** What the engine itself tells of webhooks; a domain has no events of these names. */
export const WEBHOOK_EVENTS = [webhookFailing, webhookDisabled, webhookRecovered, deliveryExhausted] as const;
