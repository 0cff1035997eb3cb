import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { eventually } from './eventually.ts';
import { createFrameReader, type WireFrame } from './frame-reader.ts';
import type { Message } from './live-client.ts';

/** A WebSocket by hand: every byte of the server is read strictly. */
export interface WireClient {
  readonly socket: Socket;
  /** The head of the answer to the upgrade. */
  readonly head: string;
  readonly frames: readonly WireFrame[];
  /** Messages of the protocol, in their order. */
  readonly messages: readonly Message[];
  /** In one chunk. */
  send(...frames: readonly Buffer[]): void;
  find(fits: (message: Message) => boolean): Promise<Message>;
  /** Resolves when the server has ended the connection. @throws what the strict reader has found */
  readonly ended: Promise<void>;
}

const OPCODES = { text: 0x1, close: 0x8, ping: 0x9, pong: 0xa };

/** A client's frame, masked as it must be. */
export function clientFrame(kind: WireFrame['kind'], content: object | string | Buffer): Buffer {
  const text = typeof content === 'string' ? content : JSON.stringify(content);
  const payload = Buffer.isBuffer(content) ? Buffer.from(content) : Buffer.from(text);
  const mask = randomBytes(4);
  for (const [at, byte] of payload.entries()) payload[at] = byte ^ (mask[at % 4] ?? 0);
  return Buffer.concat([Buffer.from([0x80 | OPCODES[kind]]), lengthOf(payload), mask, payload]);
}

function lengthOf({ length }: Buffer): Buffer {
  if (length < 126) return Buffer.from([0x80 | length]);
  const bytes = Buffer.alloc(length < 65_536 ? 3 : 9);
  bytes[0] = length < 65_536 ? 0xfe : 0xff;
  if (length < 65_536) bytes.writeUInt16BE(length, 1);
  else bytes.writeBigUInt64BE(BigInt(length), 1);
  return bytes;
}

/** Connects, upgrades while it offers `permessage-deflate`, and is acknowledged. */
export async function openWireClient(url: string, key: string): Promise<WireClient> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => {}); // 'close' follows
  socket.write(
    `${[
      'GET /graphql HTTP/1.1',
      `Host: ${hostname}`,
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
      'Sec-WebSocket-Protocol: graphql-transport-ws',
      'Sec-WebSocket-Extensions: permessage-deflate',
    ].join('\r\n')}\r\n\r\n`,
  );
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  const client = readFrom(socket, String(chunk));
  client.send(clientFrame('text', { type: 'connection_init', payload: { Authorization: `Bearer ${key}` } }));
  await client.find(({ type }) => type === 'connection_ack');
  return client;
}

function readFrom(socket: Socket, head: string): WireClient {
  const frames: WireFrame[] = [];
  const fault = Promise.withResolvers<never>();
  const messages: Message[] = [];
  const read = createFrameReader((frame) => {
    frames.push(frame);
    if (frame.kind === 'text') messages.push(JSON.parse(String(frame.payload)) as Message);
  });
  socket.on('data', (chunk: Buffer) => {
    try {
      read(chunk);
    } catch (error) {
      fault.reject(error);
      socket.destroy();
    }
  });
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  const ended = Promise.race([fault.promise, closed]);
  ended.catch(() => {}); // whoever awaits it is told
  return {
    socket,
    head,
    frames,
    messages,
    ended,
    send: (...sent) => void socket.write(Buffer.concat(sent)),
    find: (fits) =>
      Promise.race([
        fault.promise,
        eventually(() => messages.find(fits) ?? false, { describe: 'a message' }) as Promise<Message>,
      ]),
  };
}
