import { createHash } from 'node:crypto';
import { type DocumentNode, type ExecutionResult, execute, type GraphQLError, type GraphQLSchema } from 'graphql';
import { EngineError } from '../errors.ts';
import { type ErrorReport, toClientError, toClientResult } from '../graphql/client-error.ts';
import { createContext, type EngineServices } from '../graphql/context.ts';
import { readSubscription } from '../graphql/execute-event.ts';
import { type PrepareDocument, pickOperation } from '../graphql/operation.ts';
import { hidesNames } from '../graphql/visible.ts';
import type { KeyStore } from '../identity/keys.ts';
import { fingerprint, type Principal } from '../identity/principal.ts';
import type { Hub } from '../live/hub.ts';
import type { Sink } from '../live/stream.ts';
import { canonicalJson } from '../runtime/canonical-json.ts';
import type { Observe } from '../runtime/observe.ts';
import { type OperationRequest, readCausedBy } from './request.ts';

/** Who asks, in which request. */
export interface Caller {
  readonly principal: Principal;
  readonly requestId: string;
  readonly idempotencyKey: string | undefined;
}

/** An operation that was parsed, validated and picked. */
export interface Operation {
  readonly kind: 'query' | 'mutation' | 'subscription';
  readonly document: DocumentNode;
  readonly readsHead: boolean;
}

/** One door for all transports: the same checks, the same execution, the same errors. */
export interface Gateway {
  readonly keys: KeyStore;
  readonly observe: Observe;
  /** Parses, validates, picks the operation. @throws the errors, for `report` */
  prepare(request: OperationRequest, principal: Principal): Operation;
  /** Runs a query or mutation. Never rejects; errors are fit for clients. */
  run(operation: Operation, request: OperationRequest, caller: Caller): Promise<ExecutionResult>;
  /** Attaches a subscription. @throws as `prepare`, or what the hub says of the cursor */
  watch(operation: Operation, request: OperationRequest, caller: Caller, options: WatchOptions): Promise<() => void>;
  /** What a client is told of anything that was thrown. */
  report(error: unknown, requestId: string): readonly GraphQLError[];
}

export interface WatchOptions {
  readonly sink: Sink;
  /** Overrides the document's `after`: the `Last-Event-ID` of SSE. */
  readonly after?: string | undefined;
}

export interface GatewayDeps {
  readonly schema: GraphQLSchema;
  readonly engine: EngineServices;
  readonly prepareDocument: PrepareDocument;
  readonly hub: Hub;
  readonly keys: KeyStore;
  readonly observe: Observe;
}

/** Several errors at once, as validation finds them. */
class RequestErrors extends Error {
  readonly errors: readonly GraphQLError[];

  constructor(errors: readonly GraphQLError[]) {
    super('the request can not be run');
    this.errors = errors;
  }
}

export function createGateway(deps: GatewayDeps): Gateway {
  const { schema, engine, prepareDocument, hub, keys, observe } = deps;
  const reportOf = (requestId: string): ErrorReport => ({ requestId, observe });

  return {
    keys,
    observe,
    prepare(request, principal) {
      const preparation = prepareDocument(request.query, { hidesNames: hidesNames(principal) });
      if ('errors' in preparation) throw new RequestErrors(preparation.errors);
      const { document, introspects, readsHead } = preparation.prepared;
      if (introspects && !principal.scopes.has('introspect')) {
        throw new EngineError('FORBIDDEN', 'reading the schema needs the scope "introspect"');
      }
      const operation = pickOperation(document, request.operationName);
      if (operation === undefined)
        throw new EngineError('BAD_INPUT', 'name one of the operations of the document by "operationName"');
      return { kind: operation.operation, document, readsHead };
    },
    async run(operation, request, caller) {
      try {
        const causedBy = readCausedBy(request.extensions);
        const contextValue = createContext(engine, { ...caller, causedBy, readsHead: operation.readsHead });
        await contextValue.head;
        const result = await execute({
          schema,
          document: operation.document,
          contextValue,
          variableValues: request.variables ?? {},
          hideSuggestions: hidesNames(caller.principal),
          ...(request.operationName === undefined ? {} : { operationName: request.operationName }),
        });
        return toClientResult(result, reportOf(caller.requestId));
      } catch (error) {
        return { errors: [toClientError(error, reportOf(caller.requestId))] };
      }
    },
    async watch(operation, request, { principal, requestId }, { sink, after }) {
      const { document } = operation;
      const { variables, operationName } = request;
      const stream = readSubscription({ schema, document, variables, operationName }, principal, engine);
      const key = shareKey([
        fingerprint(principal),
        request.query,
        operationName ?? null,
        canonicalJson(stream.variables),
      ]);
      return hub.open(
        {
          accountId: principal.accountId,
          filters: [stream.filter, ...engine.registry.visibleTo(principal)],
          key,
          after: after ?? stream.after,
          scopes: stream.scopes,
          ownerId: principal.id,
          execute: async (event) =>
            toClientResult(await stream.execute({ engine, principal, event }), reportOf(requestId)),
        },
        sink,
      );
    },
    report(error, requestId) {
      const errors = error instanceof RequestErrors ? error.errors : [error];
      return errors.map((each) => toClientError(each, reportOf(requestId)));
    },
  };
}

function shareKey(parts: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('base64');
}
