import { type Backoff, backoffMs } from '../runtime/backoff.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Observe } from '../runtime/observe.ts';

/** One connection to the server, from its opening to its loss; it never comes back, another one takes its place. */
export interface Connection {
  /** Aborts once, when the connection is lost or dropped; the reason is the error that lost it. */
  readonly lost: AbortSignal;
  /** Counts everything the server has sent: a sign of life. */
  heard(): number;
  /** Asks for a sign of life; never rejects. */
  ping(): void;
  /** Gives the connection up: `lost` aborts at once, commands in flight reject soon, the socket is destroyed. */
  drop(reason: Error): void;
  /** Resolves when the socket is gone. */
  readonly ended: Promise<void>;
}

export interface LinkOptions<C extends Connection> {
  /** Names the link in observations: `publish` or `subscribe`. */
  readonly name: string;
  /** Opens a connection that has answered a command; rejects within a bounded time, also when the signal aborts. */
  open(signal: AbortSignal): Promise<C>;
  /** Called with each connection as soon as it is the link's; the outage ends when the promise, which never rejects, does. */
  up(connection: C): Promise<void>;
  /** Called when the connection is lost, before another is tried. */
  down(): void;
  readonly pingEveryMs: number;
  readonly backoff: Backoff;
  readonly observe: Observe;
  readonly clock: Clock;
  readonly random: () => number;
  readonly signal: AbortSignal;
}

/** How many pings in a row may bring nothing before the connection counts as dead. */
const SILENT_PINGS = 3;

/**
 * Keeps a link: watches the connection, and when it is lost opens another, for ever, with jittered backoff between tries.
 *
 * States: *up* (a connection, pinged every `pingEveryMs`; left when it is lost, which a silent one is after three pings),
 * *down* (left by a connection that opens), *closed* (the signal; from any state). Resolves when closed, its socket gone;
 * never rejects. Observes `bus.interrupted` and `bus.resumed`, once per outage.
 */
export async function keepLink<C extends Connection>(first: C, options: LinkOptions<C>): Promise<void> {
  const { name, open, up, down, backoff, observe, clock, random, signal } = options;
  let connection: C | undefined = first;
  let failures = 0;
  let lostAtMs: number | undefined;

  while (!signal.aborted) {
    if (connection === undefined) {
      await clock.wait(backoffMs(failures, backoff, random), signal);
      failures += 1;
      connection = await open(signal).catch(() => undefined); // the outage is reported already, by its first error
      continue;
    }
    const openedAtMs = clock.now();
    reportResumed(connection, up(connection));
    await watch(connection, options);
    down();
    reportInterrupted(connection.lost.reason);
    await connection.ended;
    // A link that flaps keeps its backoff: only one that held for a while starts again from the shortest wait.
    if (clock.now() - openedAtMs > backoff.capMs) failures = 0;
    connection = undefined;
  }
  connection?.drop(new Error('the bus is closed'));
  await connection?.ended;

  function reportInterrupted(error: unknown): void {
    if (signal.aborted || lostAtMs !== undefined) return;
    lostAtMs = clock.now();
    observe({ name: 'bus.interrupted', link: name, error });
  }

  /** The outage ends when `up` is done with the connection, unless that is lost again before. */
  function reportResumed(current: C, restored: Promise<void>): void {
    void restored.then(() => {
      if (current.lost.aborted || lostAtMs === undefined) return;
      observe({ name: 'bus.resumed', link: name, down_ms: clock.now() - lostAtMs });
      lostAtMs = undefined;
    });
  }
}

/**
 * Pings until the connection is lost or the link closes, and drops a silent one: a partition, or a server that is stopped,
 * closes no socket. Silence is counted in pings, not in time: a stall of our own event loop, during which nothing could
 * be heard, counts as one.
 */
async function watch(
  connection: Connection,
  { pingEveryMs, clock, signal }: Pick<LinkOptions<Connection>, 'pingEveryMs' | 'clock' | 'signal'>,
): Promise<void> {
  const stop = AbortSignal.any([connection.lost, signal]);
  let heard = connection.heard();
  let silent = 0;
  while (!stop.aborted) {
    connection.ping();
    await clock.wait(pingEveryMs, stop);
    silent = connection.heard() === heard ? silent + 1 : 0;
    heard = connection.heard();
    if (silent === SILENT_PINGS && !stop.aborted)
      connection.drop(new Error(`no answer to ${SILENT_PINGS} pings, ${pingEveryMs} ms apart`));
  }
  connection.drop(new Error('the bus is closed'));
}
