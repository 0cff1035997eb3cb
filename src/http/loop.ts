import type { IncomingMessage } from 'node:http';
import { EngineError } from '../errors.ts';

/** On every delivery, and on nothing that a client sends; a webhook's own headers can neither set nor unset it. */
const SIGNATURE = 'webhook-signature';

/** What a delivery is told that has come to an API: this one, or another of its kind. */
export const LOOP_DETECTED_MESSAGE =
  'this is the delivery of a webhook, whose URL leads to a GraphQL API of Fanfare; nothing was run, since an event could bring about another without end: give the webhook the URL of a receiver';

/** Whether a webhook's delivery has come back to the API. */
export function isDelivery({ headers }: Pick<IncomingMessage, 'headers'>): boolean {
  return headers[SIGNATURE] !== undefined;
}

/** @throws EngineError LOOP_DETECTED for a webhook's delivery */
export function refuseDelivery(request: IncomingMessage): void {
  if (isDelivery(request)) throw new EngineError('LOOP_DETECTED', LOOP_DETECTED_MESSAGE);
}
