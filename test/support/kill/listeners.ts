import { setTimeout as wait } from 'node:timers/promises';
import { openCallbackReceiver } from './callback-receiver.ts';
import type { Callback, SeenEvent } from './compare.ts';
import type { Deployment } from './deployment.ts';
import { readHead, registerWebhook } from './log.ts';
import { openSseStream, openWebSocketStream } from './streams.ts';

/** One client on each channel, from the beginning of the log on, all with the same document. */
export interface Listeners {
  streams(): Readonly<Record<string, readonly SeenEvent[]>>;
  readonly callbacks: readonly Callback[];
  /**
   * Waits until each has so many events, or nothing has come for a while: what is missing then, the comparison shows.
   * @returns what each has then, and how long it took
   */
  have(count: number): Promise<{ readonly counts: readonly Count[]; readonly waitedMs: number }>;
  close(): Promise<void>;
}

export interface Count {
  readonly name: string;
  readonly found: number;
  /** Tries to connect again. */
  readonly reconnects: number;
  /** What ended the last connection: says why nothing more comes. */
  readonly lastFault: string | undefined;
}

/** Well above the lease of a delivery whose sender was killed, well below the five minutes before a third attempt. */
const STILLNESS_MS = 45_000;

export async function listen({ api, live, key }: Deployment, query: string): Promise<Listeners> {
  const after = await readHead({ url: api.url, key });
  const receiver = await openCallbackReceiver();
  const input = { url: receiver.url, query, variables: {}, startAfter: after };
  receiver.useSecret(await registerWebhook({ url: api.url, key }, input));
  const place = { url: live.url, wsUrl: live.wsUrl, key, query, after };
  const streams = { WebSocket: openWebSocketStream(place), SSE: openSseStream(place) };
  const { callbacks } = receiver;

  function countEach(): Count[] {
    const deliveries = new Set(callbacks.map(({ webhookId }) => webhookId)).size;
    const counts = Object.entries(streams).map(([name, stream]) => {
      const { events, reconnects, lastFault } = stream;
      return { name, found: events.length, reconnects, lastFault };
    });
    return [...counts, { name: 'webhook', found: deliveries, reconnects: 0, lastFault: undefined }];
  }

  return {
    callbacks,
    streams: () => Object.fromEntries(Object.entries(streams).map(([name, { events }]) => [name, [...events]])),
    async have(count) {
      const from = performance.now();
      let best = -1;
      for (let stillSince = from; ; await wait(50)) {
        const counts = countEach();
        const sum = counts.reduce((all, { found }) => all + found, 0);
        if (sum > best) stillSince = performance.now();
        best = sum;
        const isStill = performance.now() - stillSince > STILLNESS_MS;
        if (isStill || counts.every(({ found }) => found >= count))
          return { counts, waitedMs: performance.now() - from };
      }
    },
    async close() {
      await Promise.all(Object.values(streams).map((stream) => stream.close()));
      await receiver.close();
    },
  };
}
