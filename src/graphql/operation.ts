import {
  type DocumentNode,
  GraphQLError,
  type GraphQLSchema,
  getOperationAST,
  Kind,
  Lexer,
  type OperationDefinitionNode,
  parse,
  Source,
  specifiedRules,
  TokenKind,
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
/** Depth of brackets of all kinds: selections, arguments, values. */
const MAX_NESTING = 64;
/** Depth of selections, fragments spread out; more is refused. */
export const MAX_DEPTH = 15;
/** Fields of an operation, fragments spread out as often as they are named; more is refused. */
export const MAX_FIELDS = 1_000;
/** Aliases, directives and operations in a document; more is refused. */
export const MAX_ALIASES = 30;
export const MAX_DIRECTIVES = 50;
export const MAX_OPERATIONS = 20;

/** Documents that are remembered, and the length of their texts together: a syntax tree takes some 30 times its text. */
const CACHED_DOCUMENTS = 1_000;
const CACHED_LENGTH = 2 * 1024 * 1024;

/**
 * Parses and validates documents of one schema. The last 1,000 that were valid are remembered.
 * @param options.hidesNames whether messages keep to themselves which name of the schema may have been meant
 * @default false
 */
export type PrepareDocument = (source: string, options?: { readonly hidesNames?: boolean }) => Preparation;

export function createPrepareDocument(schema: GraphQLSchema): PrepareDocument {
  const known = new Map<string, Preparation>();
  let length = 0;
  return (source, { hidesNames = false } = {}) => {
    const cached = known.get(source);
    if (cached) return cached;
    const preparation = prepare(schema, source, hidesNames);
    if ('errors' in preparation) return preparation;
    known.set(source, preparation);
    length += source.length;
    for (const oldest of known.keys()) {
      if (known.size <= CACHED_DOCUMENTS && length <= CACHED_LENGTH) break;
      known.delete(oldest);
      length -= oldest.length;
    }
    return preparation;
  };
}

function prepare(schema: GraphQLSchema, source: string, hideSuggestions: boolean): Preparation {
  let document: DocumentNode;
  try {
    requireShallow(source);
    document = parse(source, { maxTokens: MAX_TOKENS });
  } catch (error) {
    if (error instanceof GraphQLError) return { errors: [withCode(error, 'GRAPHQL_PARSE_FAILED')] };
    throw error;
  }
  const tooLarge = findTooMany(document) ?? findTooLarge(document);
  const errors = tooLarge ? [tooLarge] : validate(schema, document, specifiedRules, { maxErrors: 5, hideSuggestions });
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

/** The parser, and most that walks what it made, goes as deep into the stack as brackets are nested. @throws GraphQLError */
function requireShallow(text: string): void {
  const source = new Source(text);
  const lexer = new Lexer(source);
  let depth = 0;
  for (let count = 0; count < MAX_TOKENS && lexer.advance().kind !== TokenKind.EOF; count++) {
    if (OPENING.has(lexer.token.kind)) depth++;
    if (CLOSING.has(lexer.token.kind)) depth--;
    if (depth > MAX_NESTING)
      throw new GraphQLError(`Syntax Error: brackets are nested more than ${MAX_NESTING} deep.`, {
        source,
        positions: [lexer.token.start],
      });
  }
}

const OPENING: ReadonlySet<string> = new Set([TokenKind.BRACE_L, TokenKind.BRACKET_L, TokenKind.PAREN_L]);
const CLOSING: ReadonlySet<string> = new Set([TokenKind.BRACE_R, TokenKind.BRACKET_R, TokenKind.PAREN_R]);

/** More of something than any honest document has. */
function findTooMany(document: DocumentNode): GraphQLError | undefined {
  const counts = { aliases: 0, directives: 0, operations: 0 };
  visit(document, {
    OperationDefinition: () => void counts.operations++,
    Field: ({ alias }) => {
      if (alias !== undefined) counts.aliases++;
    },
    Directive: () => void counts.directives++,
  });
  const limits = { aliases: MAX_ALIASES, directives: MAX_DIRECTIVES, operations: MAX_OPERATIONS };
  for (const [what, limit] of Object.entries(limits) as [keyof typeof counts, number][]) {
    if (counts[what] > limit)
      return new GraphQLError(`the document has ${counts[what]} ${what}; at most ${limit} are accepted`);
  }
  return undefined;
}

interface Extent {
  readonly depth: number;
  readonly fields: number;
}

const NOTHING: Extent = { depth: 0, fields: 0 };

/**
 * The first operation that is nested too deep, or too large once its fragments are spread out. Each fragment is measured
 * once, however often it is spread, so that nested spreads cost no more than their text; a fragment that spreads itself is
 * left to the validation.
 */
function findTooLarge(document: DocumentNode): GraphQLError | undefined {
  const fragments = new Map(
    document.definitions.flatMap((each) =>
      each.kind === Kind.FRAGMENT_DEFINITION ? [[each.name.value, each] as const] : [],
    ),
  );
  const known = new Map<string, Extent>();

  function extentOf(selectionSet: OperationDefinitionNode['selectionSet'] | undefined): Extent {
    let { depth, fields } = NOTHING;
    for (const selection of selectionSet?.selections ?? []) {
      const isSpread = selection.kind === Kind.FRAGMENT_SPREAD;
      const inner = isSpread ? extentOfFragment(selection.name.value) : extentOf(selection.selectionSet);
      const own = selection.kind === Kind.FIELD ? 1 : 0;
      depth = Math.max(depth, own + inner.depth);
      fields += own + inner.fields;
    }
    return { depth, fields };
  }

  function extentOfFragment(name: string): Extent {
    const measured = known.get(name);
    if (measured !== undefined) return measured;
    known.set(name, NOTHING);
    const extent = extentOf(fragments.get(name)?.selectionSet);
    known.set(name, extent);
    return extent;
  }

  for (const each of document.definitions) {
    if (each.kind !== Kind.OPERATION_DEFINITION) continue;
    const { depth, fields } = extentOf(each.selectionSet);
    if (depth > MAX_DEPTH)
      return new GraphQLError(`the selection is nested more than ${MAX_DEPTH} fields deep`, { nodes: each });
    if (fields > MAX_FIELDS)
      return new GraphQLError(`the operation selects more than ${MAX_FIELDS} fields`, { nodes: each });
  }
  return undefined;
}

/** The operation to run, or undefined if the name does not pick exactly one. */
export function pickOperation(document: DocumentNode, name: string | undefined): OperationDefinitionNode | undefined {
  return getOperationAST(document, name) ?? undefined;
}
