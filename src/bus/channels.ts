import { type BusListener, type BusSubscription, busClosed } from './bus.ts';
import type { Report } from './report.ts';

/** What the channels need of the subscribing connection. Both reject within a bounded time if the server does not answer. */
export interface SubscribeConnection {
  subscribe(channel: string): Promise<unknown>;
  unsubscribe(channel: string): Promise<unknown>;
  drop(reason: Error): void;
}

/** The listeners of one process by channel, over a subscribing connection that comes and goes. */
export interface Channels {
  /** As `Bus.subscribe`. */
  subscribe(channel: string, listener: BusListener): Promise<BusSubscription>;
  /** Hands a message to the channel's live listeners. */
  deliver(channel: string, text: string): void;
  /** Restores every wanted channel on a new connection; resolves when each is confirmed or the connection failed. */
  up(connection: SubscribeConnection): Promise<void>;
  /** The connection was lost: interrupts every listener. */
  down(): void;
  /** Forgets every listener without a call, and rejects what is pending. */
  close(): void;
}

/**
 * One subscription. States: *pending* (not yet confirmed, its `subscribe` waits), *live* (messages are delivered),
 * *interrupted* (told so; left by the next confirmation), *closed*.
 */
interface Entry {
  readonly listener: BusListener;
  state: 'pending' | 'live' | 'interrupted' | 'closed';
  readonly settled: PromiseWithResolvers<void>;
}

/**
 * One channel: any number of entries share one SUBSCRIBE. `confirmed` is what the present connection has acknowledged,
 * and is unset before an UNSUBSCRIBE is sent. All commands of a channel run one after the other, in `tail`, and each
 * decides by what is wanted when its turn comes: subscribing while another unsubscribes can't leave a silent survivor.
 *
 * @see https://github.com/davidyaha/graphql-redis-subscriptions/issues/598
 */
interface Channel {
  readonly name: string;
  readonly entries: Set<Entry>;
  confirmed: boolean;
  tail: Promise<void>;
}

/** Makes the channels, not connected: subscriptions are interrupted until `up`. */
export function createChannels({ reportListener }: { readonly reportListener: Report }): Channels {
  const channels = new Map<string, Channel>();
  let connection: SubscribeConnection | undefined;
  let closed = false;

  return { subscribe, deliver, up, down, close };

  async function subscribe(name: string, listener: BusListener): Promise<BusSubscription> {
    if (closed) throw busClosed();
    const channel = channelNamed(name);
    const entry: Entry = { listener, state: 'pending', settled: Promise.withResolvers() };
    channel.entries.add(entry);
    if (connection === undefined) interrupt(channel, entry);
    else if (channel.confirmed) confirm(channel, entry);
    else void sync(channel);
    await entry.settled.promise;
    return {
      close() {
        entry.state = 'closed';
        channel.entries.delete(entry);
        return sync(channel);
      },
    };
  }

  function channelNamed(name: string): Channel {
    const channel = channels.get(name) ?? { name, entries: new Set(), confirmed: false, tail: Promise.resolve() };
    channels.set(name, channel);
    return channel;
  }

  /** Queues one step towards what is wanted; resolves when it is done, never rejects. */
  function sync(channel: Channel): Promise<void> {
    channel.tail = channel.tail.then(() => step(channel));
    return channel.tail;
  }

  async function step(channel: Channel): Promise<void> {
    const current = connection;
    const wanted = channel.entries.size > 0;
    if (current === undefined || wanted === channel.confirmed) return;
    channel.confirmed = false;
    try {
      await (wanted ? current.subscribe(channel.name) : current.unsubscribe(channel.name));
    } catch (error) {
      // Unknown what the server did with it: only a new connection starts from a known state.
      current.drop(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    if (!wanted || current !== connection) return;
    channel.confirmed = true;
    for (const entry of channel.entries) confirm(channel, entry);
  }

  function confirm(channel: Channel, entry: Entry): void {
    const before = entry.state;
    entry.state = 'live';
    entry.settled.resolve();
    if (before === 'interrupted') call(channel, () => entry.listener.resumed());
  }

  function interrupt(channel: Channel, entry: Entry): void {
    if (entry.state === 'interrupted') return;
    entry.state = 'interrupted';
    call(channel, () => entry.listener.interrupted());
    entry.settled.resolve();
  }

  function deliver(name: string, text: string): void {
    const channel = channels.get(name);
    if (channel === undefined) return;
    // A copy: who subscribes inside a call must not get the message that came before.
    for (const entry of [...channel.entries])
      if (entry.state === 'live') call(channel, () => entry.listener.message(text));
  }

  function call({ name }: Channel, told: () => void): void {
    try {
      told();
    } catch (error) {
      reportListener({ channel: name, error });
    }
  }

  async function up(next: SubscribeConnection): Promise<void> {
    connection = next;
    await Promise.all([...channels.values()].map(sync));
  }

  function down(): void {
    connection = undefined;
    for (const channel of channels.values()) {
      channel.confirmed = false;
      for (const entry of channel.entries) interrupt(channel, entry);
    }
  }

  function close(): void {
    closed = true;
    connection = undefined;
    for (const channel of channels.values())
      for (const entry of channel.entries) {
        entry.state = 'closed';
        entry.settled.reject(busClosed());
        channel.entries.delete(entry);
      }
  }
}
