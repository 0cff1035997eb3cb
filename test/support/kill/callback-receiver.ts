import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { Webhook } from 'standardwebhooks';
import type { Callback } from './compare.ts';

/** Somebody's endpoint: answers 200, and remembers every request whose body came whole. */
export interface CallbackReceiver {
  readonly url: string;
  readonly callbacks: readonly Callback[];
  /** From now on each signature is checked with it, on arrival, by the official library. */
  useSecret(secret: string): void;
  close(): Promise<void>;
}

export async function openCallbackReceiver(): Promise<CallbackReceiver> {
  const callbacks: Callback[] = [];
  let webhook: Webhook | undefined;
  const { url, close } = await serve(async (headers, body) => {
    callbacks.push({
      webhookId: String(headers['webhook-id']),
      eventId: single(headers['fanfare-event-id']),
      cursor: single(headers['fanfare-cursor']),
      body,
      fault: verify(webhook, headers, body),
    });
  });
  return {
    url,
    callbacks,
    useSecret(secret) {
      webhook = new Webhook(secret);
    },
    close,
  };
}

/** Called with each request; 200 is answered when it resolves. */
export type Receive = (headers: IncomingHttpHeaders, body: string) => Promise<void>;

/** An HTTP server on a free port of 127.0.0.1. */
export async function serve(receive: Receive): Promise<{ readonly url: string; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    text(request)
      .then((body) => receive(request.headers, body))
      .then(
        () => response.end(),
        () => response.destroy(), // the sender was killed in the middle of its body
      );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  // an address, since it listens on TCP
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/hook`, close: () => end(server) };
}

async function end(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}

function verify(webhook: Webhook | undefined, headers: IncomingHttpHeaders, body: string): string | undefined {
  if (webhook === undefined) return 'it came before its webhook was made';
  try {
    webhook.verify(body, headers as Record<string, string>); // the three it reads come once each
    return undefined;
  } catch (error) {
    return String(error);
  }
}

function single(value: string | string[] | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
