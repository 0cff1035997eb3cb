import { EngineError } from '../errors.ts';
import { busClosed, busFull, MAX_PENDING_BYTES, messageBytes } from './bus.ts';
import type { Report } from './report.ts';

/** What publishing needs of a connection. `publish` rejects within a bounded time, and at once when it is lost. */
export interface PublishConnection {
  publish(channel: string, message: string): Promise<unknown>;
}

/** The publishing half of a bus, over a connection that comes and goes. */
export interface Publisher {
  /** As `Bus.publish`. */
  publish(channel: string, message: string): Promise<void>;
  up(connection: PublishConnection): void;
  /** The connection was lost: until `up`, `publish` rejects at once. */
  down(): void;
  close(): void;
}

/** Makes a publisher, not connected. `reportFailed` hears of each message the transport did not take. */
export function createPublisher({ reportFailed }: { readonly reportFailed: Report }): Publisher {
  let connection: PublishConnection | undefined;
  let pendingBytes = 0;
  let closed = false;

  return {
    async publish(channel, message) {
      const bytes = messageBytes(channel, message);
      if (closed) throw busClosed();
      try {
        await send(channel, message, bytes);
      } catch (error) {
        reportFailed({ channel, error });
        throw error;
      }
    },
    up(next) {
      connection = next;
    },
    down() {
      connection = undefined;
    },
    close() {
      closed = true;
      connection = undefined;
    },
  };

  async function send(channel: string, message: string, bytes: number): Promise<void> {
    const current = connection;
    if (current === undefined) throw new EngineError('UNAVAILABLE', 'the bus is disconnected');
    if (pendingBytes + bytes > MAX_PENDING_BYTES) throw busFull();
    pendingBytes += bytes;
    try {
      await current.publish(channel, message);
    } catch (cause) {
      throw new EngineError('UNAVAILABLE', 'the bus did not take the message', { cause });
    } finally {
      pendingBytes -= bytes;
    }
  }
}
