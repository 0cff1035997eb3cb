import { type FieldNode, Kind, parse, print, type SelectionSetNode, visit } from 'graphql';
import type { WatchedEvent } from '../client/watch.ts';
import { CliError } from './arguments.ts';

/** One event as a callback's body has it. */
export interface Callback {
  /** The event's. */
  readonly id: string;
  readonly position: number;
  readonly type: string;
  readonly timestamp: string;
  readonly cursor: string;
  /** `{ "type", "timestamp", "data" }`, as the server writes it. */
  readonly body: string;
}

/** What a body needs beside the document's own selection: the event's fields by names that no document has. */
const ENVELOPE = { listenId: 'id', listenPosition: 'position', listenType: 'name', listenAt: 'occurredAt' };

/**
 * The same document, with what a callback needs asked for besides.
 * @throws CliError for what is not one subscription with one root field
 */
export function withEnvelope(source: string): string {
  const document = readDocument(source);
  const operations = document.definitions.filter((each) => each.kind === Kind.OPERATION_DEFINITION);
  const [root, extra] = operations.flatMap(({ selectionSet }) => selectionSet.selections);
  if (operations.length !== 1 || root?.kind !== Kind.FIELD || extra !== undefined)
    throw new CliError('--query: expected one subscription with one root field');
  const extended = { ...root, selectionSet: extend(root.selectionSet) };
  return print(visit(document, { Field: (field) => (field === root ? extended : undefined) }));
}

function readDocument(document: string) {
  try {
    return parse(document);
  } catch (error) {
    throw new CliError(`--query: ${error instanceof Error ? error.message : error}`);
  }
}

function extend(own: SelectionSetNode | undefined): SelectionSetNode {
  const fields = Object.entries(ENVELOPE).map(
    ([alias, name]): FieldNode => ({
      kind: Kind.FIELD,
      alias: { kind: Kind.NAME, value: alias },
      name: { kind: Kind.NAME, value: name },
    }),
  );
  return { kind: Kind.SELECTION_SET, selections: [...(own?.selections ?? []), ...fields] };
}

/** Undefined for a result with errors, which the server would not send. */
export function readCallback({ data, errors = [], cursor }: WatchedEvent): Callback | undefined {
  const [event] = Object.values(data ?? {});
  if (errors.length > 0 || typeof event !== 'object' || event === null) return undefined;
  const { listenId, listenPosition, listenType, listenAt, ...own } = event as Readonly<Record<string, unknown>>;
  const [type, timestamp] = [String(listenType), String(listenAt)];
  const body = JSON.stringify({ type, timestamp, data: own });
  return { id: String(listenId), position: Number(listenPosition), type, timestamp, cursor, body };
}
