import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { verifyWebhook } from '../../src/receiver/verify.ts';
import { serveMethods } from '../../test/support/worker.ts';
import { setWallClock } from './wall-clock.ts';
import type { Arrival } from './watch-program.ts';

export interface Expectation {
  /** Callbacks; more than these are a fault. */
  readonly count: number;
  /** Signatures are checked of one in so many. */
  readonly verifyEach: number;
  /** By path. */
  readonly secrets: Readonly<Record<string, string>>;
}

export interface Received {
  /** By `fanfare-event-id`. */
  readonly arrivals: readonly Arrival[];
  readonly verified: number;
  readonly bodyBytes: number;
  /** A body, to be sent by others. */
  readonly body: string;
}

/** Stands for the endpoint of webhooks: answers 200 to all, counts, and checks signatures. */
export function createCallbackReceiver() {
  let clock = setWallClock();
  let expected: Expectation = { count: 0, verifyEach: 1, secrets: {} };
  let arrivals: Arrival[] = [];
  let ids = new Set<string>();
  let verified = 0;
  let body = '';
  let fault: string | undefined;
  let complete = Promise.withResolvers<void>();

  async function receive(request: IncomingMessage, answer: () => void): Promise<void> {
    const bytes = await buffer(request);
    const at = clock.now();
    answer();
    const { headers, url = '' } = request;
    const id = String(headers['webhook-id']);
    if (ids.has(id)) fault ??= `${id} came twice`;
    ids.add(id);
    if (arrivals.length % expected.verifyEach === 0) verify(headers, url, bytes);
    arrivals.push({ id: String(headers['fanfare-event-id']), at });
    if (arrivals.length === expected.count) body = String(bytes);
    if (arrivals.length >= expected.count) complete.resolve();
  }

  function verify(headers: IncomingHttpHeaders, path: string, bytes: Buffer): void {
    try {
      verifyWebhook({ secret: expected.secrets[path] ?? '', headers, body: bytes });
      verified++;
    } catch (error) {
      fault ??= String(error);
    }
  }

  return {
    /** @returns its origin */
    async listen(): Promise<string> {
      const server = createServer((request, response) => {
        receive(request, () => response.end()).catch((error: unknown) => {
          fault ??= String(error);
        });
      });
      server.keepAliveTimeout = 60_000; // the sender closes what is idle, not the receiver in the middle of a request
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}`; // an address, since it listens on TCP
    },
    begin(expectation: Expectation): void {
      clock = setWallClock();
      expected = expectation;
      arrivals = [];
      ids = new Set();
      verified = 0;
      complete = Promise.withResolvers();
    },
    /** Resolves when all have come. @throws Error for one that came twice, or was signed wrongly */
    async finish(): Promise<Received> {
      await complete.promise;
      if (arrivals.length > expected.count) fault ??= `expected ${expected.count} callbacks, found ${arrivals.length}`;
      if (fault !== undefined) throw new Error(fault);
      return { arrivals, verified, bodyBytes: Buffer.byteLength(body), body };
    },
  };
}

export type CallbackReceiver = ReturnType<typeof createCallbackReceiver>;

if (import.meta.main) serveMethods(createCallbackReceiver());
