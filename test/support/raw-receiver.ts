import { createServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import type { Certificate } from './certificate.ts';

export interface RawReceiver {
  readonly port: number;
  /** Every connection accepted so far. */
  readonly connections: readonly Socket[];
  /** The same, those included of which TLS came to nothing. */
  readonly rawConnectionCount: number;
  /** All bytes received so far, as latin1. */
  received(): string;
  /** Bytes that the other side has taken so far. */
  sentByteCount(): number;
  close(): Promise<void>;
}

/**
 * Opens a server on loopback that may break every rule of HTTP.
 *
 * @param answer called when a whole request head and its declared body have come in, once per request
 * @param options.onConnect called when a connection opens, before TLS has said anything
 * @param options.onSecure called when TLS stands, with the connection below it
 */
export async function openRawReceiver(
  answer: (socket: Socket) => void,
  options: {
    readonly tls?: Certificate & Pick<TlsOptions, 'requestCert'>;
    readonly host?: string;
    readonly port?: number;
    onConnect?(socket: Socket): void;
    onSecure?(socket: Socket): void;
  } = {},
): Promise<RawReceiver> {
  const connections: Socket[] = [];
  const raw: Socket[] = [];
  let text = '';
  const onSocket = (socket: Socket) => {
    connections.push(socket);
    let pending = '';
    socket.on('error', () => {}); // resets are what these tests are about
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      pending += chunk.toString('latin1');
      for (let end = requestEnd(pending); end > 0; end = requestEnd(pending)) {
        pending = pending.slice(end);
        answer(socket);
      }
    });
  };
  const server = options.tls === undefined ? createServer(onSocket) : createTlsServer(options.tls, onSocket);
  server.on('tlsClientError', () => {}); // a client that refuses our certificate, or has none
  server.on('secureConnection', ({ remotePort }: Socket) => {
    const below = raw.find((socket) => socket.remotePort === remotePort);
    if (below !== undefined) options.onSecure?.(below);
  });
  server.on('connection', (socket: Socket) => {
    raw.push(socket);
    options.onConnect?.(socket);
  });
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, options.host ?? '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('expected a TCP address');
  return {
    port: address.port,
    connections,
    get rawConnectionCount() {
      return raw.length;
    },
    received: () => text,
    sentByteCount: () => connections.reduce((sum, socket) => sum + socket.bytesWritten - socket.writableLength, 0),
    close: () =>
      new Promise((resolve) => {
        for (const socket of raw) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

/** The index after the first whole request in the text, or 0. */
function requestEnd(text: string): number {
  const head = text.indexOf('\r\n\r\n');
  if (head < 0) return 0;
  const length = Number(/^content-length: *(\d+)/im.exec(text.slice(0, head))?.[1] ?? 0);
  return text.length >= head + 4 + length ? head + 4 + length : 0;
}
