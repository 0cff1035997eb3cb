import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { senderOf } from './worker-fleet.ts';

/** A request of a delivery, as its receiver has it. */
export interface BookedRequest {
  readonly path: string;
  /** `webhook-id`: of the delivery. */
  readonly deliveryId: string;
  readonly eventId: string;
  /** Which worker sent it. */
  readonly sender: string;
  /** When it came, in ms of the machine's clock. */
  readonly atMs: number;
  /** As it was answered, once it is. */
  status: number | undefined;
}

/** A status, at once or later; undefined: never answers. */
export type Reply = number | undefined | Promise<number | undefined>;

/** A receiver for any number of webhooks, each at a path of its own, that keeps a line for each request. */
export interface RequestBook {
  readonly url: string;
  /** In the order of arrival. */
  readonly requests: readonly BookedRequest[];
  close(): Promise<void>;
}

/** @param reply how to answer; the body is the text that was signed */
export async function openRequestBook(reply: (request: BookedRequest, body: string) => Reply): Promise<RequestBook> {
  const requests: BookedRequest[] = [];

  async function receive(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = bookedOf(message);
    const body = await text(message);
    requests.push(request);
    const status = await reply(request, body);
    if (status === undefined || response.destroyed) return;
    request.status = status;
    response.writeHead(status).end();
  }

  const server = createServer((message, response) => {
    // the sender was killed in the middle of its body, or the test gave up
    receive(message, response).catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo; // an address, since it listens on TCP
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function bookedOf({ url: path = '', headers }: IncomingMessage): BookedRequest {
  return {
    path,
    deliveryId: String(headers['webhook-id']),
    eventId: String(headers['fanfare-event-id']),
    sender: senderOf(headers['user-agent']),
    atMs: Date.now(),
    status: undefined,
  };
}
