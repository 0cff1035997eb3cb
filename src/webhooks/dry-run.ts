import { EngineError } from '../errors.ts';
import type { EngineContext } from '../graphql/context.ts';
import { filterPredicate } from '../outbox/filter.ts';
import { type EventRecord, readEvents, readEventsById } from '../outbox/read.ts';
import { observeNothing } from '../runtime/observe.ts';
import { checkSelection, type GrantRequest } from './grants.ts';
import { type RenderError, renderEvent } from './render.ts';
import type { DocumentReader } from './selection.ts';
import { isStorable } from './storable.ts';

export interface DryRunRequest extends GrantRequest {
  /** Left out: the newest event that such a webhook would get. */
  readonly eventId?: string | null | undefined;
}

/** What a webhook would be sent. */
export interface DryRun {
  /** The event; null if there is none yet. */
  readonly eventId: string | null;
  /** Null if there is no event, or the document gave errors for it. */
  readonly body: string | null;
  readonly errors: readonly RenderError[];
}

/**
 * Renders without sending, as a webhook that the caller would make now: with the same checks and the same grants.
 * @throws DocumentInvalid; EngineError NOT_FOUND for an event that such a webhook would not get
 */
export async function dryRun(
  { engine, principal }: Pick<EngineContext, 'engine' | 'principal'>,
  documents: DocumentReader,
  request: DryRunRequest,
): Promise<DryRun> {
  const selection = checkSelection({ engine, documents }, principal, request);
  const reader = { ...principal, scopes: new Set(selection.scopes) };
  const filters = [selection.filter, ...engine.registry.visibleTo(reader)];
  const query = { accountId: principal.accountId, filters, after: 0, limit: 1, from: 'newest' } as const;
  const event = request.eventId ? await readOne(request.eventId) : (await readEvents(engine.database.db, query))[0];
  if (event === undefined) return { eventId: null, body: null, errors: [] };
  const source = selection.document ?? documents.defaultOf(event.name);
  const document = documents.read(source, selection.variables, reader);
  const rendering = await renderEvent({ engine, document, principal: reader, event, observe: observeNothing });
  return rendering.status === 'rendered'
    ? { eventId: event.id, body: rendering.body, errors: [] }
    : { eventId: event.id, body: null, errors: rendering.errors };

  async function readOne(id: string): Promise<EventRecord> {
    const [found] = isStorable(id) ? await readEventsById(engine.database.db, principal.accountId, [id]) : [];
    if (found !== undefined && filterPredicate(filters)(found)) return found;
    throw new EngineError('NOT_FOUND', `there is no event "${id.slice(0, 80)}" that such a webhook would get`);
  }
}
