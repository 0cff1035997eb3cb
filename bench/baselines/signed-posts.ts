import { createHmac } from 'node:crypto';
import { Agent, request } from 'undici';
import { serveMethods } from '../../test/support/worker.ts';

export interface SignedPosts {
  readonly url: string;
  /** `whsec_…` */
  readonly secret: string;
  readonly body: string;
  readonly count: number;
  /** Requests under way at any time. */
  readonly concurrency: number;
}

/** Nothing but signed POSTs, by the HTTP client and the settings that Fanfare's sender has. */
export function createSignedPosts() {
  const dispatcher = new Agent({
    allowH2: false,
    pipelining: 1,
    maxHeaderSize: 16_384,
    headersTimeout: 0,
    bodyTimeout: 0,
    keepAliveTimeout: 4_000,
    keepAliveMaxTimeout: 4_000,
    maxRequestsPerClient: 100,
  });

  async function post({ url, key, body, number }: { url: string; key: Buffer; body: string; number: number }) {
    const id = `dlv_bench${number}`;
    const timestamp = String(Math.floor(Date.now() / 1_000));
    const signature = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64');
    const headers = {
      'webhook-id': id,
      'webhook-timestamp': timestamp,
      'webhook-signature': `v1,${signature}`,
      'fanfare-event-id': id,
      'content-type': 'application/json',
      'user-agent': 'bench',
      'accept-encoding': 'identity',
    };
    const response = await request(url, { dispatcher, method: 'POST', headers, body });
    await response.body.text();
    if (response.statusCode !== 200) throw new Error(`expected 200, found ${response.statusCode}`);
  }

  return {
    /** Resolves when all are answered. */
    async run({ url, secret, body, count, concurrency }: SignedPosts): Promise<void> {
      const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
      let next = 0;
      const sender = async () => {
        while (next < count) await post({ url, key, body, number: next++ });
      };
      await Promise.all(Array.from({ length: concurrency }, sender));
    },
  };
}

export type SignedPoster = ReturnType<typeof createSignedPosts>;

if (import.meta.main) serveMethods(createSignedPosts());
