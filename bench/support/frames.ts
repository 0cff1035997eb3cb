import { randomBytes } from 'node:crypto';

/** Kinds of frames. @see RFC 6455, section 11.8 */
const TEXT = 0x1;
const PING = 0x9;
const PONG = 0xa;

/** The header of a WebSocket upgrade request: the protocol is `graphql-transport-ws`, no extension is offered. */
export function upgradeRequest(url: URL): string {
  return [
    `GET ${url.pathname} HTTP/1.1`,
    `Host: ${url.host}`,
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
    'Sec-WebSocket-Protocol: graphql-transport-ws',
    '\r\n',
  ].join('\r\n');
}

/** A subscription over server-sent events, by a connection of its own. */
export function eventsRequest(url: URL, key: string, body: string): string {
  return [
    `POST ${url.pathname} HTTP/1.1`,
    `Host: ${url.host}`,
    `Authorization: Bearer ${key}`,
    'Accept: text/event-stream',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    '',
    body,
  ].join('\r\n');
}

/** A text frame of a client, masked as it must be; its text has less than 64 KiB. @see RFC 6455, section 5.2 */
export function clientFrame(text: string): Buffer {
  return maskedFrame(TEXT, Buffer.from(text));
}

/** The answer to a ping, which a server waits for. */
export function pongFrame(ping: Buffer): Buffer {
  return maskedFrame(PONG, Buffer.from(ping));
}

function maskedFrame(kind: number, payload: Buffer): Buffer {
  const length =
    payload.length < 126 ? [0x80 | payload.length] : [0x80 | 126, payload.length >> 8, payload.length & 0xff];
  const mask = randomBytes(4);
  for (const [at, byte] of payload.entries()) payload[at] = byte ^ (mask[at % 4] ?? 0);
  return Buffer.concat([Buffer.from([0x80 | kind, ...length]), mask, payload]);
}

/** Cuts a server's bytes into frames; others than texts and pings are passed over. */
export interface FrameReader {
  /** Calls back for each frame that the chunk completes, with a view of its payload; both hold only during the call. */
  read(chunk: Buffer): void;
}

export interface FrameListener {
  text(payload: Buffer): void;
  ping(payload: Buffer): void;
}

/** A copy: the chunk's memory is used again. */
const keepRest = (bytes: Buffer, at: number): Buffer =>
  at === bytes.length ? NOTHING : Buffer.from(bytes.subarray(at));
const NOTHING = Buffer.alloc(0);

/** Cheaper than a whole WebSocket client: the crowd must not take longer to read than the server to write. */
export function createFrameReader(listener: FrameListener): FrameReader {
  let rest: Buffer = NOTHING;
  return {
    read(chunk) {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      let at = 0;
      for (let frame = readFrame(bytes, at); frame !== undefined; frame = readFrame(bytes, at)) {
        const kind = (bytes[at] ?? 0) & 0xf;
        if (kind === TEXT) listener.text(bytes.subarray(frame.start, frame.end));
        if (kind === PING) listener.ping(bytes.subarray(frame.start, frame.end));
        at = frame.end;
      }
      rest = keepRest(bytes, at);
    },
  };
}

/** The payload's bounds, or undefined while the frame is not whole. */
function readFrame(bytes: Buffer, at: number): { readonly start: number; readonly end: number } | undefined {
  if (bytes.length < at + 2) return undefined;
  const short = (bytes[at + 1] ?? 0) & 0x7f;
  const headerLength = short < 126 ? 2 : short === 126 ? 4 : 10;
  if (bytes.length < at + headerLength) return undefined;
  const start = at + headerLength;
  const length =
    short < 126 ? short : short === 126 ? bytes.readUInt16BE(at + 2) : Number(bytes.readBigUInt64BE(at + 2));
  return bytes.length < start + length ? undefined : { start, end: start + length };
}

const EVENT = Buffer.from('event: next');
const EVENT_END = Buffer.from('\n\n');

/**
 * Cuts a response into its server-sent events; comments between them are passed over, and so are the sizes of HTTP's chunks,
 * as long as each chunk holds whole events.
 */
export function createEventReader(receive: (event: Buffer) => void): FrameReader {
  let rest: Buffer = NOTHING;
  return {
    read(chunk) {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      let at = 0;
      for (;;) {
        const start = bytes.indexOf(EVENT, at);
        const end = start < 0 ? -1 : bytes.indexOf(EVENT_END, start);
        if (end < 0) break;
        at = end + EVENT_END.length;
        receive(bytes.subarray(start, at));
      }
      rest = keepRest(bytes, at);
    },
  };
}
