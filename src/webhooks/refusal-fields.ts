import type { WebhookBuilder } from './graphql.ts';
import { CallbackRefused, type DocumentFault, DocumentInvalid } from './refusals.ts';

/** Declares `CallbackRefused` and `DocumentInvalid`; before the changes that list them. */
export function declareRefusals(builder: WebhookBuilder): void {
  const fault = builder.objectRef<DocumentFault>('DocumentFault');
  fault.implement({
    description: 'One fault of a document.',
    fields: (t) => ({
      message: t.exposeString('message'),
      line: t.exposeInt('line', { nullable: true, description: 'From 1; null if it is no one place.' }),
      column: t.exposeInt('column', { nullable: true, description: 'From 1.' }),
    }),
  });
  builder.refusal(CallbackRefused, {
    description: 'The callback URL may not be called. Which rule it breaks is in the log of the server.',
  });
  builder.refusal(DocumentInvalid, {
    description: 'The document is not one subscription that the schema can run.',
    fields: (t) => ({ errors: t.field({ type: [fault], resolve: ({ errors }) => [...errors] }) }),
  });
}
