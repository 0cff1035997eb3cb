import { type Clock, systemClock } from '../runtime/clock.ts';
import { type Observe, observeNothing } from '../runtime/observe.ts';
import {
  type Bus,
  type BusListener,
  type BusSubscription,
  busClosed,
  busFull,
  MAX_PENDING_BYTES,
  messageBytes,
} from './bus.ts';
import { sampledReport } from './report.ts';

interface Posted {
  readonly channel: string;
  readonly message: string;
  readonly bytes: number;
  readonly taken: PromiseWithResolvers<void>;
}

/**
 * The bus of a single process. A message is delivered on the event loop's next turn, never on its publisher's stack, to
 * whoever is subscribed then; `publish` resolves after that, which holds publishers that await it to the listeners' pace.
 * It is never interrupted.
 */
export function createMemoryBus(options: { readonly observe?: Observe; readonly clock?: Clock } = {}): Bus {
  const { observe = observeNothing, clock = systemClock } = options;
  const reportListener = sampledReport('bus.listener_failed', { observe, clock });
  const listeners = new Map<string, Set<BusListener>>();
  let queue: Posted[] = [];
  let pendingBytes = 0;
  let closed = false;

  return { publish, subscribe, close };

  async function publish(channel: string, message: string): Promise<void> {
    const bytes = messageBytes(channel, message);
    if (closed) throw busClosed();
    if (pendingBytes + bytes > MAX_PENDING_BYTES) throw busFull();
    // A turn, not a microtask: listeners that publish to each other would otherwise starve sockets and timers.
    if (queue.length === 0) setImmediate(deliver);
    const posted: Posted = { channel, message, bytes, taken: Promise.withResolvers() };
    queue.push(posted);
    pendingBytes += bytes;
    return posted.taken.promise;
  }

  function deliver(): void {
    const batch = queue;
    queue = [];
    for (const { channel, message, bytes, taken } of batch) {
      for (const listener of [...(listeners.get(channel) ?? [])]) tell(channel, listener, message);
      pendingBytes -= bytes;
      taken.resolve();
    }
  }

  function tell(channel: string, listener: BusListener, message: string): void {
    if (!listeners.get(channel)?.has(listener)) return; // closed by a listener before it
    try {
      listener.message(message);
    } catch (error) {
      reportListener({ channel, error });
    }
  }

  async function subscribe(channel: string, given: BusListener): Promise<BusSubscription> {
    if (closed) throw busClosed();
    const listener: BusListener = {
      // one object per subscription: the same listener may be given twice
      message: (text) => given.message(text),
      interrupted: () => given.interrupted(),
      resumed: () => given.resumed(),
    };
    const ofChannel = listeners.get(channel) ?? new Set();
    listeners.set(channel, ofChannel.add(listener));
    return {
      async close() {
        ofChannel.delete(listener);
      },
    };
  }

  async function close(): Promise<void> {
    closed = true;
    listeners.clear();
    for (const { taken } of queue.splice(0)) taken.reject(busClosed());
  }
}
