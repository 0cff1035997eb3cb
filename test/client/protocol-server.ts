import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';

/** An operation that a client has sent. */
export interface Asked {
  readonly query: string;
  readonly extensions: Readonly<Record<string, unknown>>;
  /** 1 for the first operation that the server was asked for. */
  readonly attempt: number;
  next(result: object): void;
  complete(): void;
  error(extensions: object): void;
  close(code: number): void;
  /** Without a word. */
  terminate(): void;
}

export interface ProtocolServer {
  readonly url: string;
  readonly asked: readonly Asked[];
  /** Connections so far, and those that are open. */
  readonly connections: { count: number; open: number };
  /** Payloads of the pings that carried one. */
  readonly pings: unknown[];
  close(): Promise<void>;
}

export interface Behaviour {
  readonly answer: (asked: Asked) => void;
  /** The payload of the acknowledgement. */
  readonly acknowledgement?: () => object;
  /** Answers the payload of a ping. */
  readonly pong?: (payload: object) => object;
}

/** Speaks graphql-transport-ws, and behaves as told, until the test is over. */
export async function openProtocolServer({ answer, acknowledgement, pong }: Behaviour): Promise<ProtocolServer> {
  const asked: Asked[] = [];
  const pings: unknown[] = [];
  const connections = { count: 0, open: 0 };
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  server.on('connection', (socket) => {
    connections.count += 1;
    connections.open += 1;
    socket.on('close', () => {
      connections.open -= 1;
    });
    const send = (message: object) => socket.send(JSON.stringify(message));
    socket.on('message', (text) => {
      const { type, id, payload } = JSON.parse(String(text));
      if (type === 'connection_init') send({ type: 'connection_ack', payload: acknowledgement?.() });
      if (type === 'ping' && payload !== undefined) pings.push(payload);
      if (type === 'ping') send({ type: 'pong', payload: payload && pong?.(payload) });
      if (type !== 'subscribe') return;
      const one = toAsked(socket, { id, payload, attempt: asked.length + 1 });
      asked.push(one);
      answer(one);
    });
  });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo; // it listens on TCP
  const close = async () => {
    for (const socket of server.clients) socket.terminate();
    await new Promise((resolve) => server.close(resolve));
  };
  onTestFinished(close);
  return { url: `http://127.0.0.1:${port}`, asked, connections, pings, close };
}

function toAsked(
  socket: WebSocket,
  { id, payload, attempt }: { id: string; payload: { query: string; extensions?: object }; attempt: number },
): Asked {
  const send = (message: object) => socket.send(JSON.stringify({ id, ...message }));
  return {
    query: payload.query,
    extensions: { ...payload.extensions },
    attempt,
    next: (result) => send({ type: 'next', payload: result }),
    complete: () => send({ type: 'complete' }),
    error: (extensions) => send({ type: 'error', payload: [{ message: 'not now', extensions }] }),
    close: (code) => socket.close(code),
    terminate: () => socket.terminate(),
  };
}

/** Sends events of such positions, which are their cursors, and says that it is live. */
export function sendPositions({ next }: Asked, positions: readonly number[], isSelected = true): void {
  for (const position of positions) {
    const data = { events: isSelected ? { position: String(position) } : { id: String(position) } };
    next({ data, extensions: { cursor: String(position) } });
  }
  next({ extensions: { cursor: String(positions.at(-1) ?? 0) } });
}
