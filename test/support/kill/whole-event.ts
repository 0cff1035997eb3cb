import { readdirSync, readFileSync } from 'node:fs';
import { type FieldNode, Kind, type OperationDefinitionNode, parse, print } from 'graphql';

/** Everything of every event type, asked for in the same words on every channel. */
export interface WholeEvent {
  /** For WebSocket, SSE and webhook. */
  readonly watch: string;
  /** For pulling, 100 at a time. */
  readonly pull: string;
}

const DOCUMENTS = new URL('../../../schema/documents/', import.meta.url);

/** Puts the default document of each event type, as the repository keeps them, into one. */
export function wholeEvent(): WholeEvent {
  const files = readdirSync(DOCUMENTS).filter((name) => name.endsWith('.graphql'));
  const fragments = files.map((name) => toFragment(readFileSync(new URL(name, DOCUMENTS), 'utf8')));
  const selection = `__typename ${fragments.join('\n')}`;
  return {
    watch: `subscription ($after: String) { events(after: $after) { ${selection} } }`,
    pull: `query ($after: String) { events(first: 100, after: $after) { nodes { ${selection} } pageInfo { endCursor hasNextPage } } }`,
  };
}

/** `subscription OrderPaid { orderPaid { … } }` becomes `... on OrderPaid { … }`. */
function toFragment(document: string): string {
  const operation = parse(document).definitions.find(
    (each): each is OperationDefinitionNode => each.kind === Kind.OPERATION_DEFINITION,
  );
  const field = operation?.selectionSet.selections.find((each): each is FieldNode => each.kind === Kind.FIELD);
  if (operation?.name === undefined || field?.selectionSet === undefined)
    throw new Error(`no default document: ${document}`);
  return `... on ${operation.name.value} ${print(field.selectionSet)}`;
}
