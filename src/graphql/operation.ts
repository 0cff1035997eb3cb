import {
  type DocumentNode,
  GraphQLError,
  type GraphQLSchema,
  getOperationAST,
  Kind,
  type OperationDefinitionNode,
  parse,
  specifiedRules,
  validate,
  visit,
} from 'graphql';

/** A document that was parsed and validated against the schema, and what is asked of it again and again. */
export interface PreparedDocument {
  readonly document: DocumentNode;
  /** Whether some field of it is `head`. */
  readonly readsHead: boolean;
  /** Whether it asks for the schema itself. */
  readonly introspects: boolean;
}

/** Either a document, or what is wrong with it. Errors carry their code and locations. */
export type Preparation = { readonly prepared: PreparedDocument } | { readonly errors: readonly GraphQLError[] };

/** Tokens in a document; more is refused before it is read on. */
export const MAX_TOKENS = 2_000;
/** Depth of selections, fragments spread out; more is refused. */
export const MAX_DEPTH = 15;
const CACHED_DOCUMENTS = 1_000;

/** Parses and validates documents of one schema; the last 1,000 are remembered. */
export type PrepareDocument = (source: string) => Preparation;

export function createPrepareDocument(schema: GraphQLSchema): PrepareDocument {
  const known = new Map<string, Preparation>();
  return (source) => {
    const cached = known.get(source);
    if (cached) return cached;
    const preparation = prepare(schema, source);
    const oldest = known.size >= CACHED_DOCUMENTS ? known.keys().next().value : undefined;
    if (oldest !== undefined) known.delete(oldest);
    known.set(source, preparation);
    return preparation;
  };
}

function prepare(schema: GraphQLSchema, source: string): Preparation {
  let document: DocumentNode;
  try {
    document = parse(source, { maxTokens: MAX_TOKENS });
  } catch (error) {
    if (error instanceof GraphQLError) return { errors: [withCode(error, 'GRAPHQL_PARSE_FAILED')] };
    throw error;
  }
  const tooDeep = findTooDeep(document);
  const errors = tooDeep ? [tooDeep] : validate(schema, document, specifiedRules, { maxErrors: 5 });
  if (errors.length > 0) return { errors: errors.map((error) => withCode(error, 'GRAPHQL_VALIDATION_FAILED')) };
  const names = fieldNames(document);
  return {
    prepared: { document, readsHead: names.has('head'), introspects: names.has('__schema') || names.has('__type') },
  };
}

function withCode(error: GraphQLError, code: string): GraphQLError {
  return new GraphQLError(error.message, {
    ...(error.nodes ? { nodes: error.nodes } : {}),
    ...(error.source ? { source: error.source } : {}),
    ...(error.positions ? { positions: error.positions } : {}),
    extensions: { ...error.extensions, code },
  });
}

function fieldNames(document: DocumentNode): ReadonlySet<string> {
  const names = new Set<string>();
  visit(document, { Field: ({ name }) => void names.add(name.value) });
  return names;
}

/**
 * The first selection that lies too deep. Each fragment is measured once, however often it is spread, so that nested
 * spreads cost no more than their text; a fragment that spreads itself is left to the validation.
 */
function findTooDeep(document: DocumentNode): GraphQLError | undefined {
  const fragments = new Map(
    document.definitions.flatMap((each) =>
      each.kind === Kind.FRAGMENT_DEFINITION ? [[each.name.value, each] as const] : [],
    ),
  );
  const depths = new Map<string, number>();

  function depthOf(selectionSet: OperationDefinitionNode['selectionSet'] | undefined): number {
    const depths = selectionSet?.selections.map((selection) => {
      if (selection.kind === Kind.FIELD) return 1 + depthOf(selection.selectionSet);
      return selection.kind === Kind.INLINE_FRAGMENT
        ? depthOf(selection.selectionSet)
        : depthOfFragment(selection.name.value);
    });
    return Math.max(0, ...(depths ?? []));
  }

  function depthOfFragment(name: string): number {
    const known = depths.get(name);
    if (known !== undefined) return known;
    depths.set(name, 0);
    const depth = depthOf(fragments.get(name)?.selectionSet);
    depths.set(name, depth);
    return depth;
  }

  const tooDeep = document.definitions.find(
    (each) => each.kind === Kind.OPERATION_DEFINITION && depthOf(each.selectionSet) > MAX_DEPTH,
  );
  return tooDeep && new GraphQLError(`the selection is nested more than ${MAX_DEPTH} fields deep`, { nodes: tooDeep });
}

/** The operation to run, or undefined if the name does not pick exactly one. */
export function pickOperation(document: DocumentNode, name: string | undefined): OperationDefinitionNode | undefined {
  return getOperationAST(document, name) ?? undefined;
}
