import { type Bus, MAX_MESSAGE_BYTES } from '../bus/bus.ts';
import type { ShardRecord } from '../outbox/read.ts';

/**
 * What goes over a shard's channel: the events behind offset `before`, in order. Without events it is only the range:
 * they were too large, read them from Postgres.
 */
export interface ShardMessage {
  readonly before: number;
  readonly upTo: number;
  readonly events: readonly ShardRecord[];
}

/** The channel of a shard. There are as many channels as shards, whatever is published. */
export function shardChannel(shard: number): string {
  return `shard.${shard}`;
}

/** Sends a stamped batch, shard by shard, in messages of at most 256 KiB. Rejects with the first failure. */
export async function publishBatch(bus: Bus, batch: readonly ShardRecord[]): Promise<void> {
  const shards = Map.groupBy(batch, ({ shard }) => shard);
  const sent = [...shards].map(async ([shard, events]) => {
    for (const message of toMessages(events)) await bus.publish(shardChannel(shard), message);
  });
  await Promise.all(sent);
}

/** Cuts a shard's events into messages that fit. */
export function toMessages(events: readonly ShardRecord[]): string[] {
  const messages: string[] = [];
  let texts: string[] = [];
  let bytes = 0;
  const flush = (upTo: number) => {
    if (texts.length === 0) return;
    messages.push(envelope(upTo - texts.length, upTo, texts));
    texts = [];
    bytes = 0;
  };
  for (const event of events) {
    const text = JSON.stringify(event);
    const size = Buffer.byteLength(text) + 1;
    if (bytes + size > MAX_MESSAGE_BYTES - ENVELOPE_BYTES) flush(event.shardOffset - 1);
    if (size > MAX_MESSAGE_BYTES - ENVELOPE_BYTES)
      messages.push(envelope(event.shardOffset - 1, event.shardOffset, []));
    else {
      texts.push(text);
      bytes += size;
    }
  }
  flush(events.at(-1)?.shardOffset ?? 0);
  return messages;
}

const ENVELOPE_BYTES = 100;

function envelope(before: number, upTo: number, texts: readonly string[]): string {
  return `{"before":${before},"upTo":${upTo},"events":[${texts.join(',')}]}`;
}

/** Reads what `publishBatch` sent; undefined for anything else, which is then as good as lost. */
export function readMessage(text: string): ShardMessage | undefined {
  try {
    // the channel carries the installation's name: only this program writes to it
    const message = JSON.parse(text) as ShardMessage & {
      events: (Omit<ShardRecord, 'occurredAt'> & { occurredAt: string })[];
    };
    if (!Number.isSafeInteger(message.before) || !Number.isSafeInteger(message.upTo)) return undefined;
    return {
      ...message,
      events: message.events.map((event) => ({ ...event, occurredAt: new Date(event.occurredAt) })),
    };
  } catch {
    return undefined;
  }
}
