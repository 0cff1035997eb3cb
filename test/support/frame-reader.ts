/** A frame as RFC 6455 has it: of a server, so without a mask. */
export interface WireFrame {
  readonly kind: 'text' | 'close' | 'ping' | 'pong';
  readonly payload: Buffer;
}

const KINDS: Readonly<Record<number, WireFrame['kind']>> = { 1: 'text', 8: 'close', 9: 'ping', 10: 'pong' };

/**
 * Reads a server's bytes as whole, unfragmented frames without extensions, and is strict where clients are lenient.
 * @throws Error for a reserved bit, a fragment, an unknown opcode, a mask, a length in more bytes than it needs, a long
 * control frame, text that is not UTF-8, anything behind a close
 */
export function createFrameReader(receive: (frame: WireFrame) => void): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0);
  let isClosed = false;
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    for (let size = sizeOf(rest); size !== undefined; size = sizeOf(rest)) {
      if (isClosed) throw new Error('expected nothing behind a close frame');
      const frame = readFrame(rest, size);
      rest = rest.subarray(size.header + size.payload);
      isClosed = frame.kind === 'close';
      receive(frame);
    }
  };
}

interface Size {
  readonly header: number;
  readonly payload: number;
}

/** Undefined while the frame is not whole. */
function sizeOf(bytes: Buffer): Size | undefined {
  const short = (bytes[1] ?? 0) & 0x7f;
  const header = short < 126 ? 2 : short === 126 ? 4 : 10;
  if (bytes.length < header) return undefined;
  const payload = short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  if ((short === 126 && payload < 126) || (short === 127 && payload < 65_536))
    throw new Error(`expected the shortest form of the length ${payload}`);
  return bytes.length < header + payload ? undefined : { header, payload };
}

function readFrame(bytes: Buffer, { header, payload: length }: Size): WireFrame {
  const [first = 0, second = 0] = bytes;
  const kind = KINDS[first & 0xf];
  if ((first & 0xf0) !== 0x80 || kind === undefined)
    throw new Error(`expected a whole frame, found 0x${first.toString(16)}`);
  if (second & 0x80) throw new Error('expected no mask of a server');
  if (kind !== 'text' && length > 125)
    throw new Error(`expected a control frame of at most 125 bytes, found ${length}`);
  const payload = Buffer.from(bytes.subarray(header, header + length));
  if (kind === 'text') new TextDecoder('utf-8', { fatal: true }).decode(payload);
  return { kind, payload };
}
