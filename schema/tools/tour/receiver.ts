import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type VerifiedWebhook, verifyWebhook, WebhookVerificationError } from '#receiver';

/** A small HTTP server that takes callbacks. */
export interface TourReceiver {
  readonly url: string;
  /** Why requests were turned away. */
  readonly rejections: readonly string[];
  close(): Promise<void>;
}

export interface ReceiverOptions {
  /** In the URL; the receiver then listens on all addresses. Undefined: on 127.0.0.1 alone. */
  readonly host: string | undefined;
  /** The webhook's, once it is known; before, every request is turned away. */
  readonly secret: () => string | undefined;
  /** Called with each callback whose signature is right, before it is answered. */
  readonly onCallback: (callback: VerifiedWebhook) => void;
}

const MAX_BODY_BYTES = 1024 * 1024;

/** Starts it on a free port. */
export async function openReceiver(options: ReceiverOptions): Promise<TourReceiver> {
  const rejections: string[] = [];
  const server = createServer((request, response) => {
    accept(request, options).then(
      () => response.writeHead(204).end(),
      (error: unknown) => {
        rejections.push(describe(error));
        response.writeHead(400).end();
      },
    );
  });
  if (options.host === undefined) server.listen(0, '127.0.0.1');
  else server.listen(0);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo; // it listens on TCP
  return {
    url: `http://${options.host ?? '127.0.0.1'}:${port}/tour`,
    rejections,
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function accept(request: IncomingMessage, { secret: secretOf, onCallback }: ReceiverOptions): Promise<void> {
  const body = await readBody(request);
  const secret = secretOf();
  if (secret === undefined) throw new Error('a request came before the webhook was there');
  onCallback(verifyWebhook({ secret, headers: request.headers, body }));
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    // without an encoding, a stream of bytes
    const part = chunk as Buffer;
    bytes += part.length;
    if (bytes > MAX_BODY_BYTES) throw new Error('a request was over 1 MiB');
    chunks.push(part);
  }
  return Buffer.concat(chunks);
}

function describe(error: unknown): string {
  if (error instanceof WebhookVerificationError) return `${error.code}: ${error.message}`;
  return error instanceof Error ? error.message : String(error);
}
