import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { Webhook } from 'standardwebhooks';
import { ask, type Server } from './ask.ts';
import { RegisterWebhookDocument, type TypedDocumentString } from './documents.ts';

export interface Registration {
  readonly id: string;
  /** Checks the callbacks; shown this once. */
  readonly secret: string;
}

/** Registers a URL for what a subscription gives; from now on it is called, until `DeleteWebhookDocument`. */
export async function registerWebhook<Result, Variables>(
  server: Server,
  document: TypedDocumentString<Result, Variables>,
  url: string,
): Promise<Registration> {
  const input = { url, query: document.toString() };
  const { webhookCreate } = await ask(server, RegisterWebhookDocument, { input });
  if (webhookCreate.__typename !== 'WebhookCreateSuccess') throw new Error(webhookCreate.message);
  const { webhook, secret } = webhookCreate;
  if (secret === null) throw new Error('expected a new webhook, found a repeat: its secret was shown the first time');
  return { id: webhook.id, secret };
}

/** One callback; `Result` is the type of the document that the webhook was registered with. */
export interface Callback<Result> {
  readonly type: string;
  readonly timestamp: string;
  /** The value of the document's one root field. */
  readonly data: Result[keyof Result];
}

export interface ReceiverOptions<Result> {
  readonly port: number;
  readonly secret: string;
  /** Called for each genuine callback, which may come twice; rejecting asks for it again later. */
  readonly onCallback: (callback: Callback<Result>) => void | Promise<void>;
}

/** Be called: listens for callbacks on loopback until the signal aborts. */
export async function openReceiver<Result>(options: ReceiverOptions<Result>, signal: AbortSignal): Promise<void> {
  const receiver = createServer((request, response) => {
    receive(request, options).then(
      (status) => response.writeHead(status).end(),
      () => response.writeHead(500).end(),
    );
  });
  receiver.listen({ port: options.port, host: '127.0.0.1', signal });
  await once(receiver, 'listening');
}

/** More than any callback: a payload has at most 256 KiB. */
const MAX_BODY_BYTES = 1_000_000;

async function receive<Result>(
  request: IncomingMessage,
  { secret, onCallback }: ReceiverOptions<Result>,
): Promise<number> {
  if (Number(request.headers['content-length'] ?? Infinity) > MAX_BODY_BYTES) return 413;
  const body = await buffer(request);
  let callback: Callback<Result>;
  try {
    // verify() throws for what is not signed; and what is signed, the server rendered from that document
    callback = new Webhook(secret).verify(body, request.headers as Record<string, string>) as Callback<Result>;
  } catch {
    return 400;
  }
  await onCallback(callback);
  return 204;
}
