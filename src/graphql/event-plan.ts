import {
  type DocumentNode,
  type ExecutionResult,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLField,
  GraphQLIncludeDirective,
  type GraphQLObjectType,
  type GraphQLOutputType,
  type GraphQLSchema,
  GraphQLSkipDirective,
  getDirectiveValues,
  isAbstractType,
  isLeafType,
  isListType,
  isNonNullType,
  isObjectType,
  type SelectionSetNode,
  type ValidatedSubscriptionArgs,
} from 'graphql';
import type { EngineContext } from './context.ts';

/**
 * Options of a field whose resolver looks at nothing but its parent and the context, and answers at once: such as each
 * field of an event's payload.
 */
export const FACT = { extensions: { isFact: true } } as const;

/** A selection of facts, as a function of the event. Gives undefined where graphql-js has to say what is wrong. */
export type EventPlan = (event: unknown, context: EngineContext) => ExecutionResult | undefined;

/** Thrown inside a plan, and caught by it. */
const UNPLANNED = new Error('this needs graphql-js');

type Complete = (value: unknown, context: EngineContext) => unknown;

interface PlannedField {
  readonly key: string;
  read(parent: unknown, context: EngineContext): unknown;
  readonly complete: Complete;
}

/**
 * Plans a subscription's selection for the types of events whose selected fields are all facts; for others, and where a value
 * does not fit its type, it gives undefined, and graphql-js executes.
 *
 * A document that only one client asks is executed for it alone, at each event, and so is a replay. µs of the sender's CPU for
 * each frame of nine fields, a thousand different documents in turns, one event and ten at a time (2 cores, 2026-11-22):
 * graphql-js 53 to 59 and 27 to 38; compiled by graphql-jit 67 to 77 and 19 to 24, since a thousand functions are never warm, and
 * each takes 3 ms and 130 KB to compile; this 25 and 5.4.
 */
export function planEvents(validated: ValidatedSubscriptionArgs): EventPlan {
  const planner = new Planner(validated);
  const rootType = validated.schema.getSubscriptionType();
  const root = rootType ? [...planner.collect(rootType, [validated.operation.selectionSet])] : [];
  const [key, nodes] = root[0] ?? [];
  const field = nodes?.[0] && rootType?.getFields()[nodes[0].name.value];
  if (root.length !== 1 || key === undefined || nodes === undefined || !field) return () => undefined;
  const complete = planner.planType(field.type, nodes);
  if (complete === undefined) return () => undefined;
  return (event, context) => {
    try {
      return { data: { [key]: complete(event, context) } };
    } catch {
      return undefined; // graphql-js meets it again, and says what it is
    }
  };
}

class Planner {
  readonly #schema: GraphQLSchema;
  readonly #fragments: ReadonlyMap<string, FragmentDefinitionNode>;
  readonly #variables: ValidatedSubscriptionArgs['variableValues'];

  constructor({ schema, document, variableValues }: ValidatedSubscriptionArgs) {
    this.#schema = schema;
    this.#fragments = fragmentsOf(document);
    this.#variables = variableValues;
  }

  /** The fields that a selection asks of a type, by response key, in the order of the answer. */
  collect(
    type: GraphQLObjectType,
    sets: readonly SelectionSetNode[],
    fields = new Map<string, FieldNode[]>(),
  ): ReadonlyMap<string, readonly FieldNode[]> {
    for (const node of sets.flatMap(({ selections }) => selections)) {
      if (!this.#isIncluded(node)) continue;
      if (node.kind === 'Field') {
        const key = (node.alias ?? node.name).value;
        const known = fields.get(key);
        if (known) known.push(node);
        else fields.set(key, [node]);
        continue;
      }
      const part = node.kind === 'InlineFragment' ? node : this.#fragments.get(node.name.value);
      if (part && this.#applies(part.typeCondition?.name.value, type)) this.collect(type, [part.selectionSet], fields);
    }
    return fields;
  }

  /** How a value of the type is answered; undefined if it can't be planned. */
  planType(type: GraphQLOutputType, nodes: readonly FieldNode[]): Complete | undefined {
    if (isNonNullType(type)) return requireValue(this.planType(type.ofType, nodes));
    if (isListType(type)) return completeList(this.planType(type.ofType, nodes));
    if (isLeafType(type)) return (value) => (isNothing(value) ? null : requireSome(type.coerceOutputValue(value)));
    if (isObjectType(type)) return this.#planObject(type, nodes);
    return isAbstractType(type) && type.name === 'Event' ? this.#planEvent(nodes) : undefined;
  }

  #planObject(type: GraphQLObjectType, nodes: readonly FieldNode[]): Complete | undefined {
    const sets = nodes.flatMap(({ selectionSet }) => selectionSet ?? []);
    const planned: PlannedField[] = [];
    for (const [key, fieldNodes] of this.collect(type, sets)) {
      const field = this.#planField(type, key, fieldNodes);
      if (field === undefined) return undefined;
      planned.push(field);
    }
    return (value, context) => {
      if (isNothing(value)) return null;
      const answer: Record<string, unknown> = {};
      for (const field of planned) answer[field.key] = field.complete(field.read(value, context), context);
      return answer;
    };
  }

  #planField(type: GraphQLObjectType, key: string, nodes: readonly FieldNode[]): PlannedField | undefined {
    const name = nodes[0]?.name.value ?? '';
    if (name === '__typename') return { key, read: () => type.name, complete: (value) => value };
    const field = type.getFields()[name];
    const read = field && factReader(name, field);
    const complete = read && this.planType(field.type, nodes);
    return complete && { key, read, complete };
  }

  /** Each type of event has a plan of its own, made when its first event comes. */
  #planEvent(nodes: readonly FieldNode[]): Complete {
    const plans = new Map<string, Complete | undefined>();
    return (value, context) => {
      const name = context.engine.registry.eventTypeName((value as { readonly name: string }).name); // of an EventRecord
      if (name === undefined) throw UNPLANNED;
      if (!plans.has(name)) plans.set(name, this.#planNamed(name, nodes));
      const plan = plans.get(name);
      if (plan === undefined) throw UNPLANNED;
      return plan(value, context);
    };
  }

  #planNamed(name: string, nodes: readonly FieldNode[]): Complete | undefined {
    const type = this.#schema.getType(name);
    return isObjectType(type) ? this.#planObject(type, nodes) : undefined;
  }

  #isIncluded(node: SelectionSetNode['selections'][number]): boolean {
    if (node.directives === undefined || node.directives.length === 0) return true;
    const skip = getDirectiveValues(GraphQLSkipDirective, node, this.#variables);
    const include = getDirectiveValues(GraphQLIncludeDirective, node, this.#variables);
    return skip?.if !== true && include?.if !== false;
  }

  #applies(condition: string | undefined, type: GraphQLObjectType): boolean {
    if (condition === undefined || condition === type.name) return true;
    const wanted = this.#schema.getType(condition);
    return isAbstractType(wanted) && this.#schema.isSubType(wanted, type);
  }
}

function fragmentsOf({ definitions }: DocumentNode): ReadonlyMap<string, FragmentDefinitionNode> {
  return new Map(definitions.flatMap((node) => (node.kind === 'FragmentDefinition' ? [[node.name.value, node]] : [])));
}

function factReader(name: string, field: GraphQLField<unknown, unknown>): PlannedField['read'] | undefined {
  const { extensions, args, resolve } = field;
  if (extensions.isFact !== true || args.length > 0) return undefined;
  if (resolve === undefined) return (parent) => (parent as Readonly<Record<string, unknown>>)[name]; // as graphql-js does
  // a fact's resolver does not look at its fourth argument, which is dear to make
  return (parent, context) => resolve(parent, {}, context, undefined as never);
}

function completeList(item: Complete | undefined): Complete | undefined {
  return (
    item &&
    ((value, context) => {
      if (isNothing(value)) return null;
      if (!Array.isArray(value)) throw UNPLANNED;
      return value.map((each) => item(each, context));
    })
  );
}

function requireValue(complete: Complete | undefined): Complete | undefined {
  return complete && ((value, context) => requireSome(complete(value, context)));
}

function requireSome(value: unknown): unknown {
  if (isNothing(value)) throw UNPLANNED;
  return value;
}

function isNothing(value: unknown): value is null | undefined {
  return value === null || value === undefined;
}
