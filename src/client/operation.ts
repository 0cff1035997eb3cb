import {
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  Kind,
  type OperationDefinitionNode,
  parse,
  type SelectionSetNode,
  type ValueNode,
} from 'graphql';
import type { SubscribePayload } from 'graphql-ws';

/** What the client has to know of an operation. */
export interface OperationShape {
  readonly kind: 'query' | 'mutation' | 'subscription';
  /** Where each result of a subscription has its `position`: below which field, under which name. Absent if not selected. */
  readonly position?: { readonly root: string; readonly name: string };
  /** Whether it asks for all events: a key that sees them all gets positions without a gap. */
  readonly isUnfiltered: boolean;
}

/** Reads a request. One that can't be read counts as a query: it goes once, and the server says what is wrong. */
export function readShape(payload: SubscribePayload): OperationShape {
  const document = parseQuietly(payload.query);
  const operations = document?.definitions.filter((each) => each.kind === Kind.OPERATION_DEFINITION) ?? [];
  const operation = payload.operationName
    ? operations.find(({ name }) => name?.value === payload.operationName)
    : operations[0];
  if (document === undefined || operation === undefined) return { kind: 'query', isUnfiltered: false };
  if (operation.operation !== 'subscription') return { kind: operation.operation, isUnfiltered: false };
  return { kind: 'subscription', ...readStream(document, operation, payload) };
}

function parseQuietly(query: string): DocumentNode | undefined {
  try {
    return parse(query, { noLocation: true });
  } catch {
    return undefined;
  }
}

function readStream(document: DocumentNode, operation: OperationDefinitionNode, { variables }: SubscribePayload) {
  const fields = fieldReader(document);
  const [root] = fields(operation.selectionSet); // a subscription has one
  if (root?.selectionSet === undefined) return { isUnfiltered: false };
  const below = fields(root.selectionSet);
  const found = below.find(({ name, directives }) => name.value === 'position' && !directives?.length);
  const isUnfiltered = root.name.value === 'events' && isUnset(filterOf(root), operation, variables ?? {});
  // on types that exclude each other one name may stand for two fields
  const isPlain = below.every((field) => nameOf(field) !== (found && nameOf(found)) || field.name.value === 'position');
  if (found === undefined || !isPlain) return { isUnfiltered };
  return { isUnfiltered, position: { root: nameOf(root), name: nameOf(found) } };
}

function nameOf({ alias, name }: FieldNode): string {
  return (alias ?? name).value;
}

function filterOf({ arguments: given }: FieldNode): ValueNode | undefined {
  return given?.find(({ name }) => name.value === 'filter')?.value;
}

function isUnset(
  value: ValueNode | undefined,
  { variableDefinitions = [] }: OperationDefinitionNode,
  variables: Readonly<Record<string, unknown>>,
): boolean {
  if (value === undefined || value.kind === Kind.NULL) return true;
  if (value.kind !== Kind.VARIABLE) return false;
  const definition = variableDefinitions.find(({ variable }) => variable.name.value === value.name.value);
  const given = variables[value.name.value];
  return given === null || (given === undefined && definition?.defaultValue === undefined);
}

/** Gives the fields of a selection, those in fragments too, whatever type they are on. Cycles are the server's to refuse. */
function fieldReader(document: DocumentNode): (selections: SelectionSetNode) => readonly FieldNode[] {
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const each of document.definitions)
    if (each.kind === Kind.FRAGMENT_DEFINITION) fragments.set(each.name.value, each);
  const read = ({ selections }: SelectionSetNode, seen: readonly string[]): readonly FieldNode[] =>
    selections.flatMap((each) => {
      if (each.kind === Kind.FIELD) return [each];
      if (each.kind === Kind.INLINE_FRAGMENT) return read(each.selectionSet, seen);
      const fragment = fragments.get(each.name.value);
      if (fragment === undefined || seen.includes(each.name.value)) return [];
      return read(fragment.selectionSet, [...seen, each.name.value]);
    });
  return (selections) => read(selections, []);
}
