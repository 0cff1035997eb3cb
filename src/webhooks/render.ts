import { EngineError } from '../errors.ts';
import { toClientError } from '../graphql/client-error.ts';
import type { EngineServices } from '../graphql/context.ts';
import type { EventRecord } from '../outbox/read.ts';
import type { Observe } from '../runtime/observe.ts';
import { DocumentInvalid } from './refusals.ts';
import type { DocumentReader, RunnableDocument } from './selection.ts';
import { principalOf, type Webhook } from './webhook.ts';

/** What came of rendering. */
export type Rendering =
  | { readonly status: 'rendered'; readonly body: string }
  /** The result had errors: it is never sent. */
  | { readonly status: 'failed'; readonly errors: readonly RenderError[] };

/** `RenderError` in the graph. */
export interface RenderError {
  readonly message: string;
  /** Where in the result: `orderPlaced.currentOrder`. */
  readonly path: string | null;
}

export interface RenderRequest {
  readonly engine: EngineServices;
  readonly document: RunnableDocument;
  readonly principal: Parameters<RunnableDocument['operation']['execute']>[0]['principal'];
  readonly event: EventRecord;
  readonly observe: Observe;
}

/**
 * Makes the body of one event: `type`, `timestamp`, and the value of the document's root field as `data`.
 * @throws EngineError UNAVAILABLE or TIMEOUT if the database failed it, so that it is not the document's failure
 */
export async function renderEvent({ engine, document, principal, event, observe }: RenderRequest): Promise<Rendering> {
  const { operation } = document;
  const { data, errors = [] } = await operation.execute({ engine, principal, event });
  const shown = errors.map((error) => toClientError(error, { requestId: event.id, observe }));
  const transient = shown.find(({ extensions: { code } }) => code === 'UNAVAILABLE' || code === 'TIMEOUT');
  if (transient !== undefined) throw new EngineError('UNAVAILABLE', transient.message, { cause: transient });
  if (shown.length > 0) {
    return { status: 'failed', errors: shown.map(({ message, path }) => ({ message, path: path?.join('.') ?? null })) };
  }
  const body = { type: event.name, timestamp: event.occurredAt.toISOString(), data: data?.[operation.responseKey] };
  return { status: 'rendered', body: JSON.stringify(body) };
}

/** A webhook's documents as they stand now, or why they can't be used. */
export type WebhookDocuments =
  | { readonly documentOf: (eventName: string) => RunnableDocument }
  | { readonly fault: string };

/** Reads all documents of a webhook under its grants. */
export function readDocuments(reader: DocumentReader, webhook: Webhook): WebhookDocuments {
  const principal = principalOf(webhook);
  try {
    if (webhook.document !== null) {
      const document = reader.read(webhook.document, webhook.variables, principal);
      return { documentOf: () => document };
    }
    const byType = new Map(
      (webhook.event_types ?? []).map((type) => [type, reader.read(reader.defaultOf(type), {}, principal)] as const),
    );
    return { documentOf: (name) => byType.get(name) ?? missing(name) };
  } catch (error) {
    const isTold = error instanceof DocumentInvalid || error instanceof EngineError;
    // whatever it is, it must not hold up the webhooks beside this one
    return { fault: isTold ? error.message : 'its document could not be read: internal error' };
  }
}

function missing(name: string): never {
  throw new Error(`the webhook has no document for "${name}"`);
}
