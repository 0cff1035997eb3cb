import type { WebhookBuilder } from './graphql.ts';
import { ON_EXHAUSTED, ORDERINGS } from './order.ts';

/** The enums below, by name. */
export const ORDERING = 'WebhookOrdering' as never;
export const WHEN_EXHAUSTED = 'WebhookOnExhausted' as never;

/** What the fields mean, as arguments and as fields. */
export const ORDER_HELP = {
  ordering:
    'PER_SUBJECT: within one subject each delivery waits for the end of the one before it. One that keeps failing holds up its subject only.',
  onExhausted:
    'With PER_SUBJECT, when a delivery has used up its attempts: SKIP lets the next of its subject go, BLOCK has them wait until `deliveryRetry` succeeds, or for SKIP.',
};

/** Declares how a webhook's order is given and shown. */
export function declareOrder(builder: WebhookBuilder): void {
  builder.enumType('WebhookOrdering', {
    description: `Which order a webhook's deliveries keep. ${ORDER_HELP.ordering} New values may be added: keep a default branch.`,
    values: ORDERINGS,
  });
  builder.enumType('WebhookOnExhausted', {
    description: 'What becomes of those that wait for a delivery which has used up its attempts.',
    values: ON_EXHAUSTED,
  });
}
