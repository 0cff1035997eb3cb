import { Redis } from 'ioredis';
import { StartupError } from '../errors.ts';
import type { Backoff } from '../runtime/backoff.ts';
import { type Clock, systemClock } from '../runtime/clock.ts';
import { type Observe, observeNothing } from '../runtime/observe.ts';
import type { Bus } from './bus.ts';
import { createChannels } from './channels.ts';
import { type Connection, keepLink } from './link.ts';
import { createPublisher } from './publisher.ts';
import { sampledReport } from './report.ts';

export interface RedisBusOptions {
  /** `redis://` or `rediss://`. Its database number has no effect: Redis publishes across databases. */
  readonly url: string;
  /** Begins every channel's name on the server: `ff:<installation>:`. Installations that differ in it hear nothing of each other. */
  readonly prefix: string;
  /**
   * Told `bus.interrupted` and `bus.resumed` (`link`: publish or subscribe) once per outage, and at most every 5 s
   * `bus.publish_failed` and `bus.listener_failed`, with the `count` of cases they stand for.
   */
  readonly observe?: Observe;
  /** The longest that a command may go without an answer. @default 1_000 (ms) */
  readonly timeoutMs?: number;
  /** The longest that opening a connection may take. @default 5_000 (ms) */
  readonly openTimeoutMs?: number;
  /** Each connection is pinged this often, and dropped when three pings in a row bring nothing. @default 1_000 (ms) */
  readonly pingEveryMs?: number;
  /** Between tries to reconnect, which go on until `close`. @default { baseMs: 50, capMs: 1_000 }: back within 2 s of the server, by the wait and the opening */
  readonly backoff?: Backoff;
  readonly clock?: Clock;
  /** A number in [0, 1). @default Math.random */
  readonly random?: () => number;
}

/** A connection whose channels carry the prefix, and whose commands reject after `timeoutMs`, and then drop it: the next command shall not wait as long again. */
interface RedisConnection extends Connection {
  publish(channel: string, message: string): Promise<unknown>;
  subscribe(channel: string): Promise<unknown>;
  unsubscribe(channel: string): Promise<unknown>;
  /** @returns such as `7.0.15` */
  version(): Promise<string>;
}

/**
 * Connects to Redis (7 or newer), with one connection for publishing and one for subscribing. Once it has resolved, the
 * bus outlives any loss of the server and reconnects by itself.
 *
 * ioredis is used for single connections only: its own reconnection resubscribes without telling when, and resends
 * commands that have grown old. `keepLink` opens a new one instead.
 *
 * @throws StartupError if the server can't be reached, refuses, or is too old
 */
export async function connectRedisBus(options: RedisBusOptions): Promise<Bus> {
  const { url, observe = observeNothing, clock = systemClock, random = Math.random } = options;
  const { pingEveryMs = 1_000, backoff = { baseMs: 50, capMs: 1_000 } } = options;
  const channels = createChannels({ reportListener: sampledReport('bus.listener_failed', { observe, clock }) });
  const publisher = createPublisher({ reportFailed: sampledReport('bus.publish_failed', { observe, clock }) });

  const openPublishing = (signal: AbortSignal) => openConnection('publish', options, { signal });
  const openSubscribing = (signal: AbortSignal) =>
    openConnection('subscribe', options, { signal, onMessage: channels.deliver });

  requireRedisUrl(url);
  const closing = new AbortController();
  const [publishing, subscribing] = await openFirst(url, closing, [openPublishing, openSubscribing]);
  const link = { pingEveryMs, backoff, observe, clock, random, signal: closing.signal };
  const links = Promise.all([
    keepLink<RedisConnection>(publishing, {
      ...link,
      name: 'publish',
      open: openPublishing,
      up: async (connection) => publisher.up(connection),
      down: publisher.down,
    }),
    keepLink<RedisConnection>(subscribing, {
      ...link,
      name: 'subscribe',
      open: openSubscribing,
      up: channels.up,
      down: channels.down,
    }),
  ]);

  return {
    publish: (channel, message) => publisher.publish(channel, message),
    subscribe: (channel, listener) => channels.subscribe(channel, listener),
    async close() {
      publisher.close();
      channels.close();
      closing.abort();
      await links;
    },
  };
}

/** ioredis takes any other text for a host name or a socket's path. */
function requireRedisUrl(url: string): void {
  if (URL.canParse(url) && ['redis:', 'rediss:'].includes(new URL(url).protocol)) return;
  throw new StartupError('the Redis URL must be of the form redis://user:password@host:port or rediss://…');
}

type Open = (signal: AbortSignal) => Promise<RedisConnection>;

/** Opens both connections or none, and checks what they lead to. */
async function openFirst(
  url: string,
  closing: AbortController,
  [openPublishing, openSubscribing]: readonly [Open, Open],
): Promise<[RedisConnection, RedisConnection]> {
  try {
    const publishing = openPublishing(closing.signal);
    const opened = await Promise.all([publishing, openSubscribing(closing.signal), publishing.then(requireRedis7)]);
    return [opened[0], opened[1]];
  } catch (error) {
    closing.abort(); // drops the one that may have opened
    if (error instanceof StartupError) throw new StartupError(`${shown(url)}: ${error.message}`);
    throw new StartupError(`can't reach Redis at ${shown(url)}: ${withoutCommand(error).message}`, { cause: error });
  }
}

async function requireRedis7(connection: RedisConnection): Promise<void> {
  const version = await connection.version();
  if (Number.parseInt(version, 10) >= 7) return;
  throw new StartupError(`Redis 7 or newer is needed, the server says it is ${version}`);
}

interface Opening {
  readonly signal: AbortSignal;
  readonly onMessage?: ((channel: string, text: string) => void) | undefined;
}

/** Opens a connection that has answered a ping. @throws Error what went wrong first, after at most `openTimeoutMs` */
async function openConnection(
  name: string,
  { url, prefix, timeoutMs = 1_000, openTimeoutMs = 5_000 }: RedisBusOptions,
  { signal, onMessage }: Opening,
): Promise<RedisConnection> {
  if (signal.aborted) throw signal.reason;
  const redis = new Redis(url, {
    lazyConnect: true,
    connectionName: `fanfare-bus-${name}`,
    retryStrategy: null,
    enableOfflineQueue: false,
    enableReadyCheck: false, // a server still loading refuses the ping below
    autoResubscribe: false,
    autoResendUnfulfilledCommands: false,
    commandTimeout: timeoutMs,
    disconnectTimeout: 1, // ioredis would wait 2 s for a dead peer's goodbye
  });
  const connection = connectionOf(redis, { prefix, onMessage });
  const giveUp = setTimeout(() => connection.drop(new Error(`no answer within ${openTimeoutMs} ms`)), openTimeoutMs);
  const close = () => connection.drop(new Error('the bus is closed'));
  signal.addEventListener('abort', close, { once: true });
  connection.lost.addEventListener('abort', () => signal.removeEventListener('abort', close), { once: true });
  try {
    await redis.connect();
    await redis.ping();
    return connection;
  } catch (error) {
    connection.drop(withoutCommand(error));
    throw connection.lost.reason;
  } finally {
    clearTimeout(giveUp);
  }
}

function connectionOf(
  redis: Redis,
  { prefix, onMessage }: Pick<RedisBusOptions, 'prefix'> & Pick<Opening, 'onMessage'>,
): RedisConnection {
  const lost = new AbortController();
  const ended = Promise.withResolvers<void>();
  let heard = 0;
  let firstError: Error | undefined;

  redis.on('error', (error: Error) => {
    firstError ??= withoutCommand(error);
  });
  redis.once('end', () => {
    drop(new Error('the server closed the connection'));
    ended.resolve();
  });
  redis.on('message', (channel: string, text: string) => {
    heard += 1;
    if (!lost.signal.aborted) onMessage?.(channel.slice(prefix.length), text);
  });

  return {
    lost: lost.signal,
    ended: ended.promise,
    drop,
    heard: () => heard,
    ping: () => void redis.ping().then(hear, (error: unknown) => isReply(error) && hear()),
    publish: (channel, message) => command(redis.publish(prefix + channel, message)),
    subscribe: (channel) => command(redis.subscribe(prefix + channel)),
    unsubscribe: (channel) => command(redis.unsubscribe(prefix + channel)),
    version: async () => /^redis_version:(.+?)\r?$/m.exec(await command(redis.info('server')))?.[1] ?? 'unknown',
  };

  function hear(): void {
    heard += 1;
  }

  /** What went wrong first is the cause; what follows from it (`Connection is closed`) says nothing. */
  function drop(reason: Error): void {
    if (lost.signal.aborted) return;
    lost.abort(firstError ?? reason);
    redis.disconnect();
  }

  async function command<T>(sent: Promise<T>): Promise<T> {
    try {
      return await sent;
    } catch (error) {
      const plain = withoutCommand(error);
      if (!isReply(error)) drop(plain);
      throw plain;
    }
  }
}

/** The server has answered, with an error: no reason to doubt the connection. */
function isReply(error: unknown): boolean {
  return error instanceof Error && error.name === 'ReplyError';
}

/** ioredis hangs the command on its errors: the password of HELLO, or the whole message. Neither belongs in a log. */
function withoutCommand(error: unknown): Error {
  const { message, code } = error as NodeJS.ErrnoException; // ioredis and net reject with errors only
  // Node reports a host with several addresses as an AggregateError without a message.
  return new Error(message || code || 'unknown error');
}

/** The URL without its user and password, for messages. */
function shown(url: string): string {
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname}`;
}
