import {
  createSourceEventStream,
  type DocumentNode,
  type ExecutionResult,
  executeSubscriptionEvent,
  type GraphQLError,
  type GraphQLSchema,
  getNamedType,
  TypeInfo,
  type ValidatedSubscriptionArgs,
  validateSubscriptionArgs,
  visit,
  visitWithTypeInfo,
} from 'graphql';
import { EngineError } from '../errors.ts';
import { type Principal, requireScope } from '../identity/principal.ts';
import type { EventFilter } from '../outbox/filter.ts';
import type { EventRecord } from '../outbox/read.ts';
import { createContext, type EngineServices } from './context.ts';
import { planEvents } from './event-plan.ts';
import { pickOperation } from './operation.ts';
import { type StreamRequest, StreamSource } from './subscription.ts';
import { hidesNames, requireEventTypes } from './visible.ts';

export interface SubscriptionSource {
  readonly schema: GraphQLSchema;
  /** Validated against the schema. */
  readonly document: DocumentNode;
  readonly operationName?: string | undefined;
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
}

/** A subscription, ready to be run on events: the same for WebSocket, SSE and webhooks. */
export interface EventOperation {
  /** The one root field's name or alias, under which `data` holds the event. */
  readonly responseKey: string;
  /** What was asked for; `visibleFilters` has what may be seen besides. */
  readonly filter: EventFilter;
  /** The cursor to go on behind, if the document gives one. */
  readonly after: string | undefined;
  /** Scopes that the results depend on: the field's, those of its events, and of the entities that are selected. */
  readonly scopes: readonly string[];
  /** Coerced, without those that only feed `after`: equal operations of one document have equal ones. */
  readonly variables: Readonly<Record<string, unknown>>;
  /** Runs the selection on one event, with a context of its own: at once, unless a field has to be awaited. Never rejects. */
  execute(run: EventRun): ExecutionResult | Promise<ExecutionResult>;
}

export interface EventRun {
  readonly engine: EngineServices;
  readonly principal: Principal;
  readonly event: EventRecord;
}

/**
 * Reads a subscription document as what it asks of the log.
 * @throws GraphQLError for variables that do not fit; EngineError BAD_INPUT if it is no subscription or picks none of
 * several operations; FORBIDDEN if the principal lacks a scope that the field or the filter's types need
 */
export function readSubscription(
  source: SubscriptionSource,
  principal: Principal,
  engine: EngineServices,
): EventOperation {
  const { schema, document, operationName } = source;
  const operation = pickOperation(document, operationName);
  if (operation?.operation !== 'subscription') {
    throw new EngineError(
      'BAD_INPUT',
      'expected one subscription operation; name it by operationName if there are several',
    );
  }
  const validated = validateSubscriptionArgs({
    schema,
    document,
    ...(operationName === undefined ? {} : { operationName }),
    variableValues: source.variables ?? {},
    contextValue: createContext(engine, { principal, requestId: 'subscribe' }),
    hideSuggestions: hidesNames(principal),
  });
  if (isErrors(validated)) throw validated[0] ?? new EngineError('BAD_INPUT', 'the subscription can not be run');
  const stream = readStream(validated);
  for (const scope of stream.request.scopes) requireScope(principal, scope);
  requireEventTypes(engine.registry, principal, stream.request.filter);
  return {
    responseKey: stream.responseKey,
    filter: stream.request.filter,
    after: stream.request.after,
    scopes: usedScopes({ schema, document, request: stream.request, engine, principal }),
    variables: sharedVariables(validated, stream),
    execute: createExecutor(validated),
  };
}

/** By a plan where it can, by graphql-js where it can not or something is wrong: the result is the same. */
function createExecutor(validated: ValidatedSubscriptionArgs): EventOperation['execute'] {
  const plan = planEvents(validated);
  return ({ engine, principal, event }) => {
    const contextValue = createContext(engine, { principal, requestId: event.id });
    return plan(event, contextValue) ?? executeSubscriptionEvent({ ...validated, rootValue: event, contextValue });
  };
}

function isErrors(
  validated: readonly GraphQLError[] | ValidatedSubscriptionArgs,
): validated is readonly GraphQLError[] {
  return Array.isArray(validated);
}

/** Lets GraphQL pick the root field and coerce its arguments; the field answers with what they ask for. */
function readStream(validated: ValidatedSubscriptionArgs): StreamSource {
  const stream = createSourceEventStream(validated);
  if (stream instanceof StreamSource) return stream;
  const error = 'errors' in stream ? stream.errors?.[0] : undefined;
  throw error ?? new EngineError('BAD_INPUT', 'the subscription can not be run');
}

interface ScopeUse {
  readonly schema: GraphQLSchema;
  readonly document: DocumentNode;
  readonly request: StreamRequest;
  readonly engine: EngineServices;
  readonly principal: Principal;
}

/** Only scopes that the principal has: what it could not see when it asked, it does not lose. */
function usedScopes({ schema, document, request, engine, principal }: ScopeUse): string[] {
  const events = [...engine.registry.events.values()].filter(
    ({ name }) => request.filter.types?.includes(name) ?? true,
  );
  const scopes = new Set([...request.scopes, ...events.map(({ scope }) => scope)]);
  const types = new TypeInfo(schema);
  const noteEntity = () => {
    const { scope }: { readonly scope?: unknown } = getNamedType(types.getType())?.extensions ?? {};
    if (typeof scope === 'string') scopes.add(scope);
  };
  visit(document, visitWithTypeInfo(types, { Field: noteEntity }));
  return [...scopes].filter((scope) => principal.scopes.has(scope));
}

/** A variable that only feeds `after` does not tell operations apart: each member starts where it likes. */
function sharedVariables(
  { document, variableValues }: ValidatedSubscriptionArgs,
  { afterVariable }: StreamSource,
): Readonly<Record<string, unknown>> {
  if (afterVariable === undefined || countUses(document, afterVariable) > 1) return variableValues.coerced;
  return Object.fromEntries(Object.entries(variableValues.coerced).filter(([name]) => name !== afterVariable));
}

function countUses(document: DocumentNode, variable: string): number {
  let uses = 0;
  visit(document, {
    VariableDefinition: () => false,
    Variable: ({ name }) => {
      if (name.value === variable) uses++;
    },
  });
  return uses;
}
