import {
  buildSchema,
  type GraphQLSchema,
  getNamedType,
  isAbstractType,
  isInterfaceType,
  isNullableType,
  isObjectType,
} from 'graphql';
import { describe, expect, it } from 'vitest';
import { domain as store } from '#domain';
import { domain as toy } from './support/toy-domain.ts';

const MARK = 'Current state:';

/** Ways from an event to an entity, as paths: `OrderPlaced.order.customer`. Those that say "Current state:" are not followed. */
function findWays(schema: GraphQLSchema): string[] {
  const event = schema.getType('Event');
  if (!isInterfaceType(event)) throw new Error('the schema has no interface Event');
  return schema
    .getPossibleTypes(event)
    .flatMap(({ name }) => walk(schema, { typeName: name, path: name, seen: new Set() }));
}

interface Step {
  readonly typeName: string;
  readonly path: string;
  readonly seen: Set<string>;
}

function walk(schema: GraphQLSchema, { typeName, path, seen }: Step): string[] {
  if (seen.has(typeName)) return [];
  seen.add(typeName);
  const type = schema.getType(typeName);
  const isEntity = isObjectType(type) && implementsOnly(schema, typeName);
  if (isEntity) return [path];
  if (isAbstractType(type)) {
    return schema
      .getPossibleTypes(type)
      .flatMap(({ name }) => walk(schema, { typeName: name, path: `${path}<${name}>`, seen }));
  }
  if (!isObjectType(type)) return [];
  return Object.values(type.getFields())
    .filter(({ description }) => !description?.startsWith(MARK))
    .flatMap((field) => walk(schema, { typeName: getNamedType(field.type).name, path: `${path}.${field.name}`, seen }));
}

/** An entity is a Node that is no Event. */
function implementsOnly(schema: GraphQLSchema, typeName: string): boolean {
  const type = schema.getType(typeName);
  const names = isObjectType(type) ? type.getInterfaces().map(({ name }) => name) : [];
  return names.includes('Node') && !names.includes('Event');
}

describe.each([
  ['store', store],
  ['toy', toy],
])('the schema of the %s', (_name, domain) => {
  const schema = domain.toSchema();

  it('leads from an event to an entity only by edges that say "Current state:"', () => {
    expect(findWays(schema)).toEqual([]);
  });

  it('has at most one such edge for an event, nullable, to its subject', () => {
    for (const event of domain.catalog.events) {
      const type = schema.getType(event.typeName);
      const fields = isObjectType(type) ? Object.values(type.getFields()) : [];
      const edges = fields.filter(({ description }) => description?.startsWith(MARK));
      expect(edges.length).toBeLessThanOrEqual(1);
      for (const edge of edges) {
        expect(isNullableType(edge.type)).toBe(true);
        expect(String(edge.type)).toBe(event.subject);
      }
    }
  });
});

describe('the store', () => {
  it('has an edge to the current state on each event', () => {
    for (const event of store.catalog.events) {
      const type = store.toSchema().getType(event.typeName);
      expect(isObjectType(type) && Object.keys(type.getFields())).toContain(`current${event.subject}`);
    }
  });
});

describe('the walk', () => {
  it('finds a way through a snapshot, and through a union (negative control)', () => {
    const schema = buildSchema(`
      interface Node { id: ID! }
      interface Event { id: ID! }
      type Order implements Node { id: ID! }
      type Line { order: Order }
      union Part = Line
      type OrderPlaced implements Event & Node { id: ID! parts: [Part!]! "Current state: as it is." currentOrder: Order }
      type Query { event: Event node: Node }
    `);
    expect(findWays(schema)).toEqual(['OrderPlaced.parts<Line>.order']);
  });
});
