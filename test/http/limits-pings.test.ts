import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { ClientSocket, Connection } from '../../src/http/connection.ts';
import { Turn } from '../../src/http/send-queue.ts';

// The server pings all its sockets each 12 s; here it is done by hand.
let server: Server;
const connections: Connection[] = [];
beforeAll(async () => {
  const sockets = new WebSocketServer({ noServer: true, WebSocket: ClientSocket });
  const ignore = () => {};
  const side = { turn: new Turn(), observe: ignore, onClose: ignore, hearFirst: () => true, report: () => [] };
  server = createServer().on('upgrade', (request, raw, head) =>
    sockets.handleUpgrade(request, raw, head, (socket) => {
      connections.push(new Connection({ socket, raw, side }));
    }),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterAll(async () => {
  server.close();
  server.closeAllConnections();
});

async function connectClient(options: { readonly autoPong: boolean }) {
  const { port } = server.address() as AddressInfo; // a TCP server's
  const client = new WebSocket(`ws://127.0.0.1:${port}`, 'graphql-transport-ws', options);
  await once(client, 'open');
  const connection = connections.at(-1);
  if (connection === undefined) throw new Error('the server has the socket');
  return { client, connection };
}

it('a socket that answers its pings stays', async () => {
  const { client, connection } = await connectClient({ autoPong: true });
  for (let n = 0; n < 3; n++) {
    const pinged = once(client, 'ping');
    connection.ping();
    await pinged;
    // its answer has arrived when the server has heard what was sent behind it
    const heard = once(client, 'pong');
    client.ping();
    await heard;
  }
  expect(client.readyState).toBe(client.OPEN);
  client.terminate();
});

it('a socket that left the last ping unanswered is cut off at the next', async () => {
  const { client, connection } = await connectClient({ autoPong: false });
  const pinged = once(client, 'ping');
  connection.ping();
  await pinged;
  expect(client.readyState).toBe(client.OPEN);
  const closed = once(client, 'close');
  connection.ping();
  expect((await closed)[0]).toBe(1006);
});
