import { createHash } from 'node:crypto';
import { type DocumentNode, type ExecutionResult, execute, type GraphQLError, type GraphQLSchema } from 'graphql';
import { EngineError } from '../errors.ts';
import { type ErrorReport, toClientError, toClientResult } from '../graphql/client-error.ts';
import { createContext, type EngineServices } from '../graphql/context.ts';
import { readSubscription } from '../graphql/execute-event.ts';
import { type PrepareDocument, pickOperation } from '../graphql/operation.ts';
import { hidesNames } from '../graphql/visible.ts';
import type { KeyStore } from '../identity/keys.ts';
import { fingerprint, lossOf, type Principal } from '../identity/principal.ts';
import type { ConnectionLimit } from '../limits/connections.ts';
import type { Hub } from '../live/hub.ts';
import type { Sink, StreamOwner } from '../live/stream.ts';
import { canonicalJson } from '../runtime/canonical-json.ts';
import type { Observe } from '../runtime/observe.ts';
import { type OperationRequest, readCausedBy, readStreamExtensions } from './request.ts';

/** Who asks, in which request. */
export interface Caller {
  readonly principal: Principal;
  readonly requestId: string;
  readonly idempotencyKey: string | undefined;
  /** Aborts when nobody waits for the answer any more. */
  readonly signal?: AbortSignal | undefined;
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
  /** WebSockets and event streams take their places here. */
  readonly connections: ConnectionLimit;
  readonly observe: Observe;
  /** Parses, validates, picks the operation. @throws the errors, for `report` */
  prepare(request: OperationRequest, principal: Principal): Operation;
  /** Runs a query or mutation. Never rejects; errors are fit for clients. */
  run(operation: Operation, request: OperationRequest, caller: Caller): Promise<ExecutionResult>;
  /** Attaches a subscription. @throws as `prepare`, or what the hub says of the cursor */
  watch(operation: Operation, request: OperationRequest, caller: Caller, options: WatchOptions): Promise<() => void>;
  /** Ends with FORBIDDEN those streams of the owner that need a scope which the principal lacks. */
  endLost(owner: StreamOwner, principal: Principal): void;
  /** What a client is told of anything that was thrown. */
  report(error: unknown, requestId: string): readonly GraphQLError[];
}

export interface WatchOptions {
  readonly sink: Sink;
  /** Whose principal may change while the stream goes on. @default the caller's, for good */
  readonly owner?: StreamOwner;
  /** Overrides the request's `extensions.after`, which overrides the document's: the `Last-Event-ID` of SSE. */
  readonly after?: string | undefined;
}

export interface GatewayDeps {
  readonly schema: GraphQLSchema;
  readonly engine: EngineServices;
  readonly prepareDocument: PrepareDocument;
  readonly hub: Hub;
  readonly keys: KeyStore;
  readonly connections: ConnectionLimit;
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
  const { schema, engine, prepareDocument, hub, keys, connections, observe } = deps;
  const reportOf = (requestId: string): ErrorReport => ({ requestId, observe });

  return {
    keys,
    connections,
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
    async watch(operation, request, { principal, requestId }, { sink, owner, after }) {
      const { document } = operation;
      const { variables, operationName } = request;
      const asked = readStreamExtensions(request.extensions);
      const stream = readSubscription({ schema, document, variables, operationName }, principal, engine);
      const key = shareKey([
        fingerprint(principal),
        request.query,
        operationName ?? null,
        canonicalJson(stream.variables),
      ]);
      const toClient = (result: ExecutionResult) => toClientResult(result, reportOf(requestId));
      return hub.open(
        {
          accountId: principal.accountId,
          filters: [stream.filter, ...engine.registry.visibleTo(principal)],
          key,
          after: after ?? asked.after ?? stream.after,
          checkpoints: asked.checkpoints,
          scopes: stream.scopes,
          owner: owner ?? { principalId: principal.id },
          execute: (event) => {
            const result = stream.execute({ engine, principal, event });
            return result instanceof Promise ? result.then(toClient) : toClient(result);
          },
        },
        sink,
      );
    },
    endLost(owner, principal) {
      hub.end((each, scopes) => (each === owner ? lossOf(principal, scopes) : undefined));
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
