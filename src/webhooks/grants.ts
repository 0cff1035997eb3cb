import { EngineError } from '../errors.ts';
import type { EngineServices } from '../graphql/context.ts';
import { toStoredFilter } from '../graphql/event-filter.ts';
import { ENGINE_SCOPES, type Principal } from '../identity/principal.ts';
import type { EventFilter } from '../outbox/filter.ts';
import type { DocumentReader, Selection } from './selection.ts';
import { requireStorable } from './storable.ts';

/** A selection that was checked, and what its webhook needs to be granted. */
export interface CheckedSelection extends Selection {
  readonly filter: EventFilter;
  readonly scopes: readonly string[];
}

export interface GrantRequest {
  readonly eventTypes?: readonly string[] | null | undefined;
  readonly query?: string | null | undefined;
  readonly variables?: unknown;
  /** A coerced `EventFilter`, with `eventTypes`: a document has one of its own. */
  readonly filter?: unknown;
  /** Left out: the fewest that serve. */
  readonly scopes?: readonly string[] | null | undefined;
}

/**
 * Checks what a webhook is to ask for, and decides its scopes: those asked for, or the fewest that serve. Both are out
 * of the creator's own.
 * @throws DocumentInvalid; EngineError BAD_INPUT for both or neither of `eventTypes` and `query`, for a filter beside a
 * document, an unknown scope, or a character that can't be stored;
 * FORBIDDEN for a scope that the creator lacks, or one that was not asked for and is needed
 */
export function checkSelection(
  { engine, documents }: { readonly engine: EngineServices; readonly documents: DocumentReader },
  principal: Principal,
  request: GrantRequest,
): CheckedSelection {
  const selection = readSelection(request);
  const granted = request.scopes ?? undefined;
  const asked = granted === undefined ? principal : { ...principal, scopes: checkGranted(engine, principal, granted) };
  const { filter, needed } =
    selection.document === null
      ? needsOfTypes(engine, documents, { selection, asked })
      : needsOfDocument(engine, documents, { source: selection.document, selection, asked });
  for (const scope of needed) requireGranted(asked, principal, scope);
  return {
    ...selection,
    filter: selection.document === null ? { ...filter, ...readFilter(request) } : ownFilter(filter, request),
    scopes: [...new Set(granted ?? needed)].sort(),
  };
}

/** What is asked of the events of `eventTypes`. */
function readFilter({ filter }: GrantRequest): EventFilter {
  const { types, ...parts } = toStoredFilter(filter);
  if (types !== undefined) throw new EngineError('BAD_INPUT', 'give the types by "eventTypes", not by filter.types');
  return parts;
}

/** What a document asks for itself. */
function ownFilter(own: EventFilter, { filter }: GrantRequest): EventFilter {
  if (isGiven(filter))
    throw new EngineError('BAD_INPUT', 'give the filter inside "query", as an argument of its root field');
  return toStoredFilter(own);
}

function readSelection({ eventTypes, query, variables }: GrantRequest): Selection {
  if (isGiven(eventTypes) === isGiven(query)) {
    throw new EngineError('BAD_INPUT', 'give either "eventTypes" or "query"');
  }
  if (isGiven(variables) && !isObject(variables)) throw new EngineError('BAD_INPUT', '"variables" must be an object');
  requireStorable('query', query);
  requireStorable('variables', variables);
  if (!isGiven(eventTypes)) return { eventTypes: null, document: query ?? null, variables: variables ?? {} };
  if (eventTypes.length === 0) throw new EngineError('BAD_INPUT', '"eventTypes" needs at least one type');
  if (isGiven(variables)) throw new EngineError('BAD_INPUT', '"variables" go with "query" only');
  return { eventTypes: [...new Set(eventTypes)].sort(), document: null, variables: {} };
}

function isGiven<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function checkGranted(engine: EngineServices, principal: Principal, scopes: readonly string[]): ReadonlySet<string> {
  for (const scope of scopes) {
    const isKnown = engine.registry.scopes.has(scope) || (ENGINE_SCOPES as readonly string[]).includes(scope);
    if (!isKnown) throw new EngineError('BAD_INPUT', `"${scope.slice(0, 60)}" is not a scope`);
    if (!principal.scopes.has(scope)) {
      throw new EngineError(
        'FORBIDDEN',
        `a webhook can't be granted the scope "${scope}", which the key does not have`,
      );
    }
  }
  return new Set(scopes);
}

interface Needs {
  readonly filter: EventFilter;
  readonly needed: readonly string[];
}

interface TypesRequest {
  readonly selection: Selection;
  readonly asked: Principal;
}

function needsOfTypes(engine: EngineServices, documents: DocumentReader, { selection, asked }: TypesRequest): Needs {
  const types = selection.eventTypes ?? [];
  for (const type of types) documents.read(documents.defaultOf(type), {}, asked);
  return { filter: { types }, needed: ['events:read', ...scopesOf(engine, types)] };
}

function needsOfDocument(
  engine: EngineServices,
  documents: DocumentReader,
  { source, selection, asked }: TypesRequest & { readonly source: string },
): Needs {
  const { operation, entityScopes } = documents.read(source, selection.variables, asked);
  // a filter without types means all that may be seen
  const all = engine.catalog.events.filter(({ scope }) => asked.scopes.has(scope)).map(({ name }) => name);
  const types = operation.filter.types ?? all;
  return { filter: operation.filter, needed: ['events:read', ...scopesOf(engine, types), ...entityScopes] };
}

function scopesOf(engine: EngineServices, types: readonly string[]): string[] {
  return types.flatMap((type) => engine.catalog.byName(type)?.scope ?? []);
}

function requireGranted(asked: Principal, principal: Principal, scope: string): void {
  if (asked.scopes.has(scope)) return;
  throw new EngineError(
    'FORBIDDEN',
    principal.scopes.has(scope)
      ? `what the webhook asks for needs the scope "${scope}", which "scopes" leaves out`
      : `what the webhook asks for needs the scope "${scope}", which the key does not have`,
  );
}
