import type { WebhookBuilder } from './graphql.ts';
import { MAX_DELAY_S, MAX_WINDOW_S, scheduleOf } from './pace.ts';
import type { Webhook } from './webhook.ts';

/** The types below, by name. */
export const RETRY_INPUT = 'WebhookRetryInput' as never;
export const RETRY = 'WebhookRetry' as never;

/** Declares how a webhook's schedule of retries is given and shown. */
export function declareRetries(builder: WebhookBuilder): void {
  builder.inputType('WebhookRetryInput', {
    description: 'When a delivery is tried again. Each wait is stretched or shortened by up to a tenth.',
    fields: (t) => ({
      delays: t.intList({
        description: `Seconds before the second attempt, the third and so on: 1 to ${MAX_DELAY_S} each. Empty: one attempt only. Left out: ten attempts over three days.`,
      }),
      window: t.int({
        description: `Seconds from the first attempt to the last: 1 to ${MAX_WINDOW_S}; the last delay is repeated until then. None is scheduled later. At most 100 attempts.`,
      }),
    }),
  });
  builder.objectRef<Webhook>('WebhookRetry').implement({
    description: 'When a delivery is tried again, in seconds.',
    fields: (t) => ({
      delays: t.field({
        type: ['Int'],
        description: 'Before the second attempt, the third and so on.',
        resolve: (webhook) => scheduleOf(webhook).delaysMs.map((ms) => ms / 1_000),
      }),
      window: t.exposeInt('retry_window', {
        nullable: true,
        description:
          'From the first attempt to the last; the last delay is repeated until then. Null: as long as there are delays.',
      }),
    }),
  });
}
