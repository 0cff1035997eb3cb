import { PASSING } from '../client/fault.ts';
import { CliError, nearWord } from './arguments.ts';
import { nameOf, postQuery, reasonOf } from './ask.ts';

export interface Server {
  /** The GraphQL endpoint. */
  readonly url: string;
  readonly key: string;
  /** Where the key is from, for messages. */
  readonly keyFrom?: string;
}

/** The server does not answer: it may later. */
export class Unreachable extends CliError {}

/** All facts of all events can't be asked for: the message says why. */
export class FactsLeftOut extends CliError {}

/** The key may not read the schema. */
export class SchemaHidden extends FactsLeftOut {}

/** The server takes 2,000 tokens. */
const MAX_TOKENS = 1_900;

const MAX_DEPTH = 4;
const INTROSPECTION = `{
  __schema {
    subscriptionType { fields { name type { ...T } } }
    types { name kind interfaces { name } possibleTypes { name } fields { name args { type { kind } defaultValue } type { ...T } } }
  }
}
fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } }`;

interface TypeRef {
  readonly kind: string;
  readonly name: string | null;
  readonly ofType?: TypeRef | null;
}

interface Field {
  readonly name: string;
  readonly args?: readonly { readonly type: { readonly kind: string }; readonly defaultValue: string | null }[];
  readonly type: TypeRef;
}

interface Type {
  readonly name: string;
  readonly kind: string;
  readonly interfaces: readonly { readonly name: string }[] | null;
  readonly possibleTypes?: readonly { readonly name: string }[] | null;
  readonly fields: readonly Field[] | null;
}

interface Schema {
  readonly subscriptionType: { readonly fields: readonly Field[] } | null;
  readonly types: readonly Type[];
}

/**
 * A subscription to one field with all facts of its event, read out of the server's schema: scalars, and snapshots four
 * deep. Edges to entities are left out: they show the present, not the event.
 *
 * @throws CliError if the server can't be asked, the key lacks the scope `introspect`, or there is no such field
 */
export async function documentForField(name: string, server: Server): Promise<string> {
  const { subscriptionType, types } = await readSchema(server);
  const fields = subscriptionType?.fields ?? [];
  const field = fields.find((each) => each.name === name);
  if (field === undefined) {
    const names = fields.map((each) => each.name);
    throw new CliError(`there is no subscription field "${name}"${await nearWord(name, names)}`);
  }
  const known = new Map(types.map((type) => [type.name, type]));
  return `subscription ($after: String) { ${name}(after: $after) ${selectionOf(field.type, known, MAX_DEPTH)} }`;
}

/**
 * A subscription to all events, or those of a filter, each with all its facts, read out of the server's schema.
 * @param signal ends the wait for the server
 * @throws Unreachable, FactsLeftOut, or another CliError for what is no GraphQL server
 */
export async function documentForEvents(server: Server, signal?: AbortSignal): Promise<string> {
  const { types } = await readSchema(server, signal);
  const known = new Map(types.map((type) => [type.name, type]));
  const event = known.get('Event');
  const common = new Set((event?.fields ?? []).map(({ name }) => name));
  const parts: { part: string }[] = partsOf(event?.fields ?? [], known, MAX_DEPTH).sort(byReading);
  const taken = new Map<string, string>();
  for (const { name } of event?.possibleTypes ?? []) {
    const own = (known.get(name)?.fields ?? []).filter((field) => !common.has(field.name));
    const facts = partsOf(own, known, MAX_DEPTH).map(({ field, part }) => {
      // two types may have a field of one name and different form, which one document can't ask for without an alias
      const form = `${JSON.stringify(field.type)} ${part}`;
      const isFree = (taken.get(field.name) ?? form) === form;
      if (isFree) taken.set(field.name, form);
      return isFree ? part : `${field.name}Of${name}: ${part}`;
    });
    if (facts.length > 0) parts.push({ part: `... on ${name} { ${facts.join(' ')} }` });
  }
  const selection = ['__typename', ...parts.map(({ part }) => part)].join(' ');
  const document = `subscription ($after: String, $filter: EventFilter) { events(filter: $filter, after: $after) { ${selection} } }`;
  if ((document.match(/\w+|[^\w\s]/g)?.length ?? 0) > MAX_TOKENS) {
    throw new FactsLeftOut('the facts of all types of events are too many for one document; watch one FIELD');
  }
  return document;
}

/** What a reader looks for first; the rest follows in the schema's order. */
const READING_ORDER = ['name', 'position', 'cursor', 'id', 'occurredAt', 'subjectType', 'subjectId', 'subjectVersion'];

function byReading(a: { readonly field: Field }, b: { readonly field: Field }): number {
  const [left, right] = [a, b].map(({ field }) => READING_ORDER.indexOf(field.name) + 1 || READING_ORDER.length + 1);
  return (left ?? 0) - (right ?? 0);
}

/** Empty for a scalar, undefined where nothing can or should be selected. */
function selectionOf(ref: TypeRef, types: ReadonlyMap<string, Type>, depth: number): string | undefined {
  const type = types.get(namedType(ref));
  if (type === undefined) return undefined;
  if (type.kind === 'SCALAR' || type.kind === 'ENUM') return '';
  if (type.kind !== 'OBJECT' || depth < 0) return undefined;
  const parts = partsOf(type.fields ?? [], types, depth).map(({ part }) => part);
  return parts.length === 0 ? undefined : `{ ${parts.join(' ')} }`;
}

/** What to select of a type's fields: those that need no arguments and lead to no entity. */
function partsOf(fields: readonly Field[], types: ReadonlyMap<string, Type>, depth: number) {
  return fields.flatMap((field) => {
    if (field.args?.some(({ type: arg, defaultValue }) => arg.kind === 'NON_NULL' && defaultValue === null)) return [];
    if (types.get(namedType(field.type))?.interfaces?.some((each) => each.name === 'Node')) return [];
    const inner = selectionOf(field.type, types, depth - 1);
    return inner === undefined ? [] : [{ field, part: `${field.name}${inner === '' ? '' : ` ${inner}`}` }];
  });
}

function namedType(ref: TypeRef): string {
  return ref.ofType ? namedType(ref.ofType) : (ref.name ?? '');
}

async function readSchema({ url, key, keyFrom }: Server, signal?: AbortSignal): Promise<Schema> {
  const limit = AbortSignal.any([AbortSignal.timeout(10_000), ...(signal === undefined ? [] : [signal])]);
  const response = await postQuery({ url, key }, { query: INTROSPECTION }, { signal: limit }).catch(
    (error: unknown) => {
      throw new Unreachable(`${url} can't be reached: ${reasonOf(error)}; is the server running?`);
    },
  );
  const body: unknown = await response.json().catch(() => undefined);
  // the form of any answer to a GraphQL request; what is none of it gives undefined below
  const { data, errors } = (body ?? {}) as {
    data?: { __schema?: Schema } | null;
    errors?: readonly { message: string; extensions?: { code?: string } }[];
  };
  if (data?.__schema) return data.__schema;
  const [error] = errors ?? [];
  const code = error?.extensions?.code;
  if (response.status >= 500 || PASSING.includes(code ?? '')) {
    throw new Unreachable(`${url} answered ${error?.message ?? response.status}`);
  }
  if (error && code === 'UNAUTHENTICATED') {
    throw new CliError(
      `${error.message}; it was asked with the key ${nameOf(key)}${keyFrom ? ` from ${keyFrom}` : ''}`,
    );
  }
  if (code === 'FORBIDDEN') {
    throw new SchemaHidden(`${error?.message}; give a document by --query`);
  }
  throw new CliError(
    error?.message ?? `${url} answered ${response.status}, which is no answer to GraphQL; is it Fanfare?`,
  );
}
