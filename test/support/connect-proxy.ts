import { createServer } from 'node:http';
import type { Socket } from 'node:net';

export interface ConnectProxy {
  readonly url: string;
  /** What it was asked to connect to, as `host:port`. */
  readonly targets: readonly string[];
  /** Connections that it has accepted. */
  readonly connectionCount: number;
  close(): Promise<void>;
}

/** Opens a forward proxy on loopback that answers each CONNECT by a function. */
export async function openConnectProxy(answer: (socket: Socket, target: string) => void): Promise<ConnectProxy> {
  const targets: string[] = [];
  const sockets: Socket[] = [];
  const server = createServer().on('connect', (incoming, socket: Socket) => {
    socket.on('error', () => {});
    targets.push(incoming.url ?? '');
    answer(socket, incoming.url ?? '');
  });
  server.on('connection', (socket) => sockets.push(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('expected a TCP address');
  return {
    url: `http://127.0.0.1:${address.port}`,
    targets,
    get connectionCount() {
      return sockets.length;
    },
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
