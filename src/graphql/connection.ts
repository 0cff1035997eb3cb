import { EngineError } from '../errors.ts';
import type { EngineBuilder } from './builder.ts';

/** The most that one page holds. */
export const MAX_PAGE = 100;
const DEFAULT_PAGE = 50;

/** The arguments of a Relay connection, as they come. */
export interface PageArguments {
  readonly first?: number | null | undefined;
  readonly after?: string | null | undefined;
  readonly last?: number | null | undefined;
  readonly before?: string | null | undefined;
}

/** The arguments, checked. */
export interface Page {
  readonly limit: number;
  /** From which end rows are taken; they are shown in ascending order all the same. */
  readonly from: 'oldest' | 'newest';
  readonly after: string | undefined;
  readonly before: string | undefined;
}

/**
 * Checks the arguments of a connection. Without `first` and `last` it is the first 50.
 * @throws EngineError BAD_INPUT for both `first` and `last`, or for one that is not 0 to 100
 */
export function checkPage({ first, after, last, before }: PageArguments): Page {
  if (isGiven(first) && isGiven(last)) throw new EngineError('BAD_INPUT', 'give "first" or "last", not both');
  const [name, limit] = isGiven(last) ? ['last', last] : ['first', first ?? DEFAULT_PAGE];
  if (limit < 0 || limit > MAX_PAGE)
    throw new EngineError('BAD_INPUT', `"${name}" is ${limit}; expected 0 to ${MAX_PAGE}`);
  return { limit, from: isGiven(last) ? 'newest' : 'oldest', after: after ?? undefined, before: before ?? undefined };
}

function isGiven<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}

/** A page of nodes in ascending order, ready to be resolved. */
export interface Connection<Node> {
  readonly nodes: readonly Node[];
  readonly hasNextPage: boolean;
  readonly hasPreviousPage: boolean;
  readonly cursorOf: (node: Node) => string;
}

/**
 * Makes a page out of up to `limit + 1` rows in ascending order: one more than asked for tells that there are more.
 * As Relay has it, the flag of the end that was not asked about only says whether a cursor was given for it.
 */
export function toConnection<Node>(
  rows: readonly Node[],
  page: Page,
  cursorOf: (node: Node) => string,
): Connection<Node> {
  const hasMore = rows.length > page.limit;
  const isOldest = page.from === 'oldest';
  const nodes = isOldest ? rows.slice(0, page.limit) : rows.slice(Math.max(rows.length - page.limit, 0));
  return {
    nodes,
    hasNextPage: isOldest ? hasMore : page.before !== undefined,
    hasPreviousPage: isOldest ? page.after !== undefined : hasMore,
    cursorOf,
  };
}

/** The type `<name>Connection` with its edges, declared at its first use. */
export function connectionRef<Node>(builder: EngineBuilder, name: string, node: unknown) {
  const { sharedTypes } = builder.options.engine.registry;
  const known = sharedTypes.get(name);
  type Ref = ReturnType<typeof builder.objectRef<Connection<Node>>>;
  // what this function put there
  if (known !== undefined) return known as Ref;
  const edge = builder.objectRef<{ readonly node: Node; readonly cursor: string }>(`${name}Edge`);
  edge.implement({
    fields: (t) => ({
      cursor: t.exposeString('cursor', { description: 'The place of this node, for `after` and `before`.' }),
      node: t.field({ type: node as never, resolve: (each) => each.node as never }),
    }),
  });
  const ref: Ref = builder.objectRef<Connection<Node>>(`${name}Connection`);
  sharedTypes.set(name, ref);
  ref.implement({
    description: 'A page, in ascending order.',
    fields: (t) => ({
      edges: t.field({
        type: [edge],
        resolve: ({ nodes, cursorOf }) => nodes.map((each) => ({ node: each, cursor: cursorOf(each) })),
      }),
      nodes: t.field({ type: [node as never], resolve: ({ nodes }) => nodes as never }),
      pageInfo: t.field({ type: pageInfoRef(builder), resolve: (connection) => connection as Connection<unknown> }),
    }),
  });
  return ref;
}

function pageInfoRef(builder: EngineBuilder) {
  const { sharedTypes } = builder.options.engine.registry;
  type Ref = ReturnType<typeof builder.objectRef<Connection<unknown>>>;
  const known = sharedTypes.get('PageInfo');
  // what this function put there
  if (known !== undefined) return known as Ref;
  const ref: Ref = builder.objectRef<Connection<unknown>>('PageInfo');
  sharedTypes.set('PageInfo', ref);
  const cursor = ({ nodes, cursorOf }: Connection<unknown>, at: number) => {
    const node = nodes.at(at);
    return node === undefined ? null : cursorOf(node);
  };
  ref.implement({
    fields: (t) => ({
      hasNextPage: t.exposeBoolean('hasNextPage'),
      hasPreviousPage: t.exposeBoolean('hasPreviousPage'),
      startCursor: t.string({ nullable: true, resolve: (page) => cursor(page, 0) }),
      endCursor: t.string({ nullable: true, resolve: (page) => cursor(page, -1) }),
    }),
  });
  return ref;
}
