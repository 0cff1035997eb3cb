import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { type WatchedEvent, type WatchState, watch } from '../client/watch.ts';
import { CliError } from './arguments.ts';
import { nameOf } from './ask.ts';
import { documentForEvents, documentForField, FactsLeftOut, Unreachable } from './document.ts';

export interface WatchCommand {
  /** The GraphQL endpoint, http or https. */
  readonly url: string;
  readonly key: string;
  /** Where the key is from: `ADMIN_API_KEY`. */
  readonly keyFrom: string;
  /** At most one of `field`, `filter` and `queryFile`. */
  readonly field: string | undefined;
  /** Event types, separated by commas, as `ORDER_PLACED` or `order.placed`. */
  readonly filter: string | undefined;
  readonly queryFile: string | undefined;
  readonly after: string | undefined;
}

/** Between two looks for a server that is not there yet. */
const RETRY_MS = 1_000;

/** For a key that may not read the schema: what all events have. */
const ENVELOPES = `subscription ($after: String, $filter: EventFilter) {
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
  let cursor: string | undefined;
  try {
    await untilSignal(async (signal) => {
      const query = await documentOf(command, signal);
      if (query === undefined) return;
      await watch({
        url,
        key,
        query,
        variables: command.filter === undefined ? {} : { filter: { types: typesOf(command.filter) } },
        after,
        signal,
        onState: (state) => tell(describeState(state, command)),
        async onEvent(event) {
          await printEvent(event, signal);
          cursor = event.cursor;
        },
      });
    });
  } finally {
    if (cursor !== undefined) tell(`to go on from here: --after ${cursor}`);
  }
}

/** Works until it is done, SIGINT or SIGTERM comes, `stop` is called, or nobody reads what is printed. */
export async function untilSignal(work: (signal: AbortSignal, stop: () => void) => Promise<void>): Promise<void> {
  const stopping = new AbortController();
  const stop = () => stopping.abort();
  // not once: npm passes on the Ctrl-C that the terminal has sent already
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop);
  process.stdout.on('error', stop); // EPIPE: `| head` has seen enough
  try {
    await work(stopping.signal, stop);
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, stop);
    process.stdout.off('error', stop);
  }
}

/** The document that a command stands for. Undefined if it was stopped meanwhile. */
export async function documentOf(command: WatchCommand, signal: AbortSignal): Promise<string | undefined> {
  const { field, queryFile } = command;
  if (queryFile !== undefined) return readQuery(queryFile);
  return field === undefined || field === 'events' ? documentOfAll(command, signal) : documentForField(field, command);
}

/** Waits for a server that is not there, as the watch itself does. */
async function documentOfAll(server: WatchCommand, signal: AbortSignal): Promise<string | undefined> {
  for (let attempt = 1; !signal.aborted; attempt++) {
    try {
      return await documentForEvents(server, signal);
    } catch (error) {
      if (error instanceof FactsLeftOut) {
        tell(`events are printed without their facts: ${error.message}`);
        return ENVELOPES;
      }
      if (signal.aborted) return undefined;
      if (!(error instanceof Unreachable)) throw error;
      if (attempt === 1) tell(`${error.message}; trying again each second`);
    }
    await wait(RETRY_MS, undefined, { signal }).catch(() => {});
  }
  return undefined;
}

function readQuery(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new CliError(`--query: ${file} can't be read: ${error instanceof Error ? error.message : error}`);
  }
}

/** `order.placed` or `ORDER_PLACED`, as the graph has it. */
export function typesOf(filter: string): string[] {
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

/** What becomes of the connection, as one line. */
export function describeState(state: WatchState, { url, key, keyFrom }: WatchCommand): string {
  switch (state.state) {
    case 'connecting':
      return `connecting to ${url} with the key ${nameOf(key)} from ${keyFrom}`;
    case 'catching up':
      return 'catching up';
    case 'live':
      return 'connected, live';
    case 'interrupted':
      return `interrupted: ${state.reason}; trying again in ${(state.retryMs / 1_000).toFixed(1)} s`;
  }
}

/** Says it on standard error. */
export function tell(line: string): void {
  process.stderr.write(`fanfare: ${line}\n`);
}
