import {
  type GraphQLField,
  type GraphQLNamedType,
  type GraphQLObjectType,
  type GraphQLSchema,
  getNamedType,
  isInterfaceType,
  isObjectType,
  isRequiredArgument,
} from 'graphql';
import { EVENT_FIELDS, type EventDefinition } from '../outbox/event.ts';

/**
 * The subscription document that a bare event type stands for: all fields that each event has, then all facts of its
 * payload, snapshots whole. Edges to entities are left out, so that an event's JSON is the same whenever it is made.
 * @throws Error if the schema does not declare the event
 */
export function defaultDocument(schema: GraphQLSchema, event: EventDefinition): string {
  const type = schema.getType(event.typeName);
  if (!isObjectType(type)) throw new Error(`the schema has no type "${event.typeName}"`);
  const own = EVENT_FIELDS.map((name) => `    ${name}`);
  const payload = [...event.fields.keys()].flatMap((name) => select(schema, type, { name, indent: '    ' }));
  return [`subscription ${event.typeName} {`, `  ${event.fieldName} {`, ...own, ...payload, '  }', '}', ''].join('\n');
}

interface Place {
  readonly name: string;
  readonly indent: string;
}

function select(schema: GraphQLSchema, parent: GraphQLObjectType, { name, indent }: Place): string[] {
  const field = parent.getFields()[name];
  if (field === undefined) throw new Error(`${parent.name} has no field "${name}"`);
  const type = getNamedType(field.type);
  if (!isObjectType(type)) return [`${indent}${name}`];
  const inner = Object.values(type.getFields())
    .filter((each) => isFact(schema, each))
    .flatMap((each) => select(schema, type, { name: each.name, indent: `${indent}  ` }));
  return [`${indent}${name} {`, ...inner, `${indent}}`];
}

function isFact(schema: GraphQLSchema, field: GraphQLField<unknown, unknown>): boolean {
  return !isNode(schema, getNamedType(field.type)) && !field.args.some(isRequiredArgument);
}

function isNode(schema: GraphQLSchema, type: GraphQLNamedType): boolean {
  const node = schema.getType('Node');
  return isObjectType(type) && isInterfaceType(node) && schema.isSubType(node, type);
}
