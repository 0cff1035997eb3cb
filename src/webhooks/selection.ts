import {
  type DocumentNode,
  GraphQLError,
  type GraphQLSchema,
  getNamedType,
  Kind,
  TypeInfo,
  visit,
  visitWithTypeInfo,
} from 'graphql';
import { EngineError } from '../errors.ts';
import type { EngineServices } from '../graphql/context.ts';
import { defaultDocument } from '../graphql/default-document.ts';
import { type EventOperation, readSubscription } from '../graphql/execute-event.ts';
import { createPrepareDocument, type PrepareDocument } from '../graphql/operation.ts';
import { hidesNames } from '../graphql/visible.ts';
import type { Principal } from '../identity/principal.ts';
import { DocumentInvalid, toFault } from './refusals.ts';

/** What a webhook asks for: event types, each with its default document, or one subscription document. */
export interface Selection {
  /** Wire names; null with a document. */
  readonly eventTypes: readonly string[] | null;
  /** Null with event types. */
  readonly document: string | null;
  readonly variables: Readonly<Record<string, unknown>>;
}

/** A document, ready to be run on events. */
export interface RunnableDocument {
  readonly source: string;
  readonly operation: EventOperation;
  /** Of the entities that its fields lead to. */
  readonly entityScopes: readonly string[];
}

/** Reads documents against the one schema of a process; the schema is asked for at the first use. */
export interface DocumentReader {
  /**
   * @throws DocumentInvalid with the places of its faults; EngineError FORBIDDEN if the principal may not ask for it,
   * BAD_INPUT for a filter that is too long
   */
  read(source: string, variables: Readonly<Record<string, unknown>>, principal: Principal): RunnableDocument;
  /** The document that a bare event type stands for. @throws DocumentInvalid if this program declares no such event */
  defaultOf(eventType: string): string;
}

/** Longer documents are refused unread. */
const MAX_DOCUMENT_LENGTH = 20_000;

export function createDocumentReader(deps: {
  readonly engine: EngineServices;
  readonly schema: () => GraphQLSchema;
}): DocumentReader {
  const { engine } = deps;
  const defaults = new Map<string, string>();
  let prepare: PrepareDocument | undefined;

  function parseAndValidate(source: string, principal: Principal): DocumentNode {
    if (source.length > MAX_DOCUMENT_LENGTH) throw invalid(`the document is over ${MAX_DOCUMENT_LENGTH} characters`);
    prepare ??= createPrepareDocument(deps.schema());
    const preparation = prepare(source, { hidesNames: hidesNames(principal) });
    if ('errors' in preparation) throw new DocumentInvalid(preparation.errors.map(toFault));
    const { document } = preparation.prepared;
    requireOneSubscription(document);
    return document;
  }

  return {
    read(source, variables, principal) {
      const document = parseAndValidate(source, principal);
      const schema = deps.schema();
      const operation = asInvalid(() => readSubscription({ schema, document, variables }, principal, engine));
      if (operation.after !== undefined)
        throw invalid('a webhook begins where its "startAfter" says; leave "after" out');
      return { source, operation, entityScopes: readEntityScopes(schema, document) };
    },
    defaultOf(eventType) {
      const known = defaults.get(eventType);
      if (known !== undefined) return known;
      const event = engine.catalog.byName(eventType);
      if (event === undefined) throw invalid(`this program declares no event "${eventType}"`);
      const source = defaultDocument(deps.schema(), event);
      defaults.set(eventType, source);
      return source;
    },
  };
}

function invalid(message: string): DocumentInvalid {
  return new DocumentInvalid([{ message, line: null, column: null }]);
}

function requireOneSubscription(document: DocumentNode): void {
  const operations = document.definitions.filter((each) => each.kind === Kind.OPERATION_DEFINITION);
  const wrong = operations.find(({ operation }) => operation !== 'subscription') ?? operations[1];
  if (wrong === undefined && operations.length === 1) return;
  const nodes = wrong === undefined ? {} : { nodes: wrong };
  throw new DocumentInvalid([
    toFault(new GraphQLError('expected exactly one operation, a subscription with one root field', nodes)),
  ]);
}

/** GraphQL's own faults, such as a variable that does not fit, become the refusal; what stands behind them stays. */
function asInvalid<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof GraphQLError)) throw error;
    if (error.originalError instanceof EngineError) throw error.originalError;
    throw new DocumentInvalid([toFault(error)]);
  }
}

/** An entity's type names its scope in its extensions. */
function readEntityScopes(schema: GraphQLSchema, document: DocumentNode): string[] {
  const scopes = new Set<string>();
  const types = new TypeInfo(schema);
  visit(
    document,
    visitWithTypeInfo(types, {
      Field() {
        const type = types.getType();
        const scope = type && getNamedType(type).extensions.scope;
        if (typeof scope === 'string') scopes.add(scope);
      },
    }),
  );
  return [...scopes];
}
