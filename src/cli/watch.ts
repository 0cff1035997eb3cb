import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type WatchedEvent, type WatchState, watch } from '../client/watch.ts';
import { CliError } from './arguments.ts';
import { documentForField } from './document.ts';

export interface WatchCommand {
  /** The GraphQL endpoint, http or https. */
  readonly url: string;
  readonly key: string;
  /** At most one of `field`, `filter` and `queryFile`. */
  readonly field: string | undefined;
  /** Event types, separated by commas, as `ORDER_PLACED` or `order.placed`. */
  readonly filter: string | undefined;
  readonly queryFile: string | undefined;
  readonly after: string | undefined;
}

const EVENTS = `subscription ($after: String, $filter: EventFilter) {
  events(filter: $filter, after: $after) {
    __typename id name position cursor occurredAt subjectType subjectId subjectVersion changed actor requestId
  }
}`;

/**
 * Prints each event as one line of JSON on standard output until SIGINT or SIGTERM, or until nobody reads any more; what
 * becomes of the connection goes to standard error.
 * @throws WatchError, or CliError for a file or schema that can't be read
 */
export async function watchEvents(command: WatchCommand): Promise<void> {
  const { url, key, after } = command;
  const query = await documentOf(command);
  const stopping = new AbortController();
  const stop = () => stopping.abort();
  let cursor: string | undefined;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
  process.stdout.on('error', stop); // EPIPE: `| head` has seen enough
  try {
    await watch({
      url,
      key,
      query,
      variables: command.filter === undefined ? {} : { filter: { types: typesOf(command.filter) } },
      after,
      signal: stopping.signal,
      onState: (state) => tell(describeState(state, url)),
      async onEvent(event) {
        await printEvent(event, stopping.signal);
        cursor = event.cursor;
      },
    });
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, stop);
    process.stdout.off('error', stop);
    if (cursor !== undefined) tell(`to go on from here: --after ${cursor}`);
  }
}

async function documentOf({ field, queryFile, url, key }: WatchCommand): Promise<string> {
  if (queryFile !== undefined) return readQuery(queryFile);
  return field === undefined || field === 'events' ? EVENTS : documentForField(field, { url, key });
}

function readQuery(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new CliError(`--query: ${file} can't be read: ${error instanceof Error ? error.message : error}`);
  }
}

function typesOf(filter: string): string[] {
  return filter.split(',').map((type) => type.trim().replaceAll('.', '_').toUpperCase());
}

/** Waits for a slow reader: the client then takes no more than it can hold. */
async function printEvent({ data, errors = [], cursor }: WatchedEvent, signal: AbortSignal): Promise<void> {
  for (const { message } of errors) tell(`the event at ${cursor} is incomplete: ${message}`);
  const [event] = Object.values(data ?? {});
  if (event === undefined || event === null) return;
  if (process.stdout.write(`${JSON.stringify(event)}\n`)) return;
  await once(process.stdout, 'drain', { signal }).catch(() => {}); // stopped, or nobody reads: the signal ends it
}

function describeState(state: WatchState, url: string): string {
  switch (state.state) {
    case 'connecting':
      return `connecting to ${url}`;
    case 'connected':
      return 'connected';
    case 'interrupted':
      return `interrupted: ${state.reason}; trying again in ${(state.retryMs / 1_000).toFixed(1)} s`;
  }
}

function tell(line: string): void {
  process.stderr.write(`fanfare: ${line}\n`);
}
