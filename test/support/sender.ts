import type { Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import { createAddressPolicy } from '../../src/webhooks/addresses.ts';
import { createSender, type SenderOptions } from '../../src/webhooks/attempt.ts';
import { createCallbackGuard } from '../../src/webhooks/guard.ts';
import { createResolver } from '../../src/webhooks/resolver.ts';
import { type DnsAnswer, openDnsServer } from './dns-server.ts';
import { openRawReceiver } from './raw-receiver.ts';

/** Closes it after the test. */
export function track<T extends { close(): unknown }>(each: T): T {
  onTestFinished(async () => {
    await each.close();
  });
  return each;
}

/** Of a sender unless told otherwise: nothing that ends by itself is cut by it, however busy the machine is. */
export const GENEROUS_MS = 25_000;
export const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok';

/** A sender that may call 127.0.0.0/8, and for which every name has these A records. */
export async function openSender(options: Partial<SenderOptions> & { answer?: DnsAnswer; allowCidrs?: string[] } = {}) {
  const { answer = 'notFound', allowCidrs = ['127.0.0.0/8'], ...rest } = options;
  const dns = track(await openDnsServer(({ type }) => (type === 'A' || typeof answer === 'string' ? answer : [])));
  const guard = createCallbackGuard({
    policy: createAddressPolicy({ allowCidrs }),
    resolver: createResolver({ servers: [dns.address] }),
    now: Date.now,
  });
  return track(
    createSender({ guard, version: '1.2.3', deadlineMs: GENEROUS_MS, connectTimeoutMs: GENEROUS_MS, ...rest }),
  );
}

/** Sends one request to a receiver that answers each request by `answer`. */
export async function sendTo(answer: (socket: Socket) => void, options: Partial<SenderOptions> = {}) {
  const receiver = track(await openRawReceiver(answer));
  const sender = await openSender(options);
  const outcome = await sender.send({ url: `http://127.0.0.1:${receiver.port}/hook?a=1`, headers: {}, body: '{}' });
  return { outcome, receiver, sender };
}
