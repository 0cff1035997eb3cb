import { watch } from '../client/watch.ts';
import { newSecret, signPayload } from '../webhooks/sign.ts';
import { CliError } from './arguments.ts';
import { readHead } from './ask.ts';
import { type Callback, readCallback, withEnvelope } from './callback.ts';
import { type Forwarded, forward } from './forward.ts';
import { describeState, documentOf, tell, typesOf, untilSignal, type WatchCommand } from './watch.ts';

export interface ListenCommand extends WatchCommand {
  /** Where callbacks go: an http or https URL. */
  readonly forwardTo: string;
  /** `whsec_…`; undefined makes one. */
  readonly secret: string | undefined;
  /** The last position to forward; the command ends there. */
  readonly until: number | undefined;
}

/**
 * Forwards each event as a signed callback to a server of one's own, one after the other in the order of the log, and prints a line for
 * each with its answer; until SIGINT or SIGTERM, or behind `until`. The stream goes on by itself after a lost connection, behind the last
 * event that was forwarded. A callback that fails is not sent again; the last lines say how to.
 * @returns whether all were answered 2xx
 * @throws WatchError, or CliError for a file, schema or secret that can't be used
 */
export async function listen(command: ListenCommand): Promise<boolean> {
  const secret = command.secret ?? newSecret();
  requireSecret(secret);
  tell(
    command.secret === undefined
      ? `forwarding to ${command.forwardTo}, signed with ${secret} (--secret, or WEBHOOK_SECRET, to keep one)`
      : `forwarding to ${command.forwardTo}`,
  );
  const tally = createTally();
  try {
    await forwardAll({ ...command, secret }, tally);
  } finally {
    for (const line of tally.lines()) tell(line);
  }
  return tally.failures() === 0;
}

async function forwardAll(command: ListenCommand & { readonly secret: string }, tally: Tally): Promise<void> {
  await untilSignal(async (signal, stop) => {
    const document = await documentOf(command, signal);
    if (document === undefined) return;
    // known before the first event, so that it can be forwarded again
    const after = command.after ?? (await readHead(command, signal));
    tally.begin(after);
    await watch({
      url: command.url,
      key: command.key,
      query: withEnvelope(document),
      variables: command.filter === undefined ? {} : { filter: { types: typesOf(command.filter) } },
      after,
      signal,
      onState(state) {
        tell(describeState(state, command));
        if (state.state === 'live' && command.until !== undefined) stop(); // all of the past has come
      },
      async onEvent(event) {
        const callback = readCallback(event);
        if (callback === undefined) {
          tell(`the event at ${event.cursor} can't be shown, and is not forwarded`);
          return tally.note(event.cursor, false);
        }
        if (command.until !== undefined && callback.position > command.until) return stop();
        const answer = await forward(command.forwardTo, { callback, headers: sign(callback, command.secret), signal });
        if (answer === undefined) return; // stopped meanwhile: it is the first that is not forwarded
        process.stdout.write(`${describe(callback, answer)}\n`);
        tally.note(callback.cursor, answer.isOk);
        if (callback.position === command.until) stop();
      },
    });
  });
}

function requireSecret(secret: string): void {
  try {
    signPayload({ secrets: [secret], id: 'probe', timestampSeconds: 0, body: '' });
  } catch (error) {
    throw new CliError(`--secret: ${error instanceof Error ? error.message : error}`);
  }
}

/** As the server signs; the id is made of the event's, so that it is the same however often the event is forwarded. */
function sign({ id, cursor, body }: Callback, secret: string, now = Date.now): Readonly<Record<string, string>> {
  const webhookId = id.replace(/^evt_/, 'lsn_');
  const timestampSeconds = Math.floor(now() / 1_000);
  return {
    'webhook-id': webhookId,
    'webhook-timestamp': String(timestampSeconds),
    'webhook-signature': signPayload({ secrets: [secret], id: webhookId, timestampSeconds, body }),
    'fanfare-event-id': id,
    'fanfare-cursor': cursor,
  };
}

function describe({ position, type, timestamp }: Callback, { outcome, ms }: Forwarded): string {
  return `${timestamp} ${position} ${type} -> ${outcome} in ${Math.round(ms)} ms`;
}

type Tally = ReturnType<typeof createTally>;

/** What has come of it, for the last lines. */
function createTally() {
  let last: string | undefined;
  let failures = 0;
  let count = 0;
  /** Behind this cursor lies the first that failed. */
  let beforeFailure: string | undefined;
  return {
    begin(after: string | undefined): void {
      last = after;
    },
    note(cursor: string, isOk: boolean): void {
      count++;
      if (!isOk && failures++ === 0) beforeFailure = last;
      last = cursor;
    },
    failures: () => failures,
    lines: () => [
      ...(count > 0 ? [`forwarded ${count}, of which ${failures} failed`] : []),
      ...(failures > 0 && beforeFailure !== undefined ? [`to forward them again: --after ${beforeFailure}`] : []),
      ...(last === undefined ? [] : [`to go on from here: --after ${last}`]),
    ],
  };
}
