import { createSocket } from 'node:dgram';

/** What one question is answered with. `nothing` leaves the asker waiting; `notFound` is NXDOMAIN; an empty list is NODATA. */
export type DnsAnswer = readonly string[] | 'notFound' | 'serverFailure' | 'nothing';

export interface DnsQuestion {
  readonly name: string;
  readonly type: 'A' | 'AAAA';
  /** How often this name was asked for this type before. */
  readonly earlier: number;
}

export interface DnsServer {
  /** `127.0.0.1:port`, as `WEBHOOK_DNS_SERVERS` takes it. */
  readonly address: string;
  /** Every question so far, as `A name`. */
  readonly questions: readonly string[];
  close(): Promise<void>;
}

/** Opens a name server on loopback whose answers a function decides; each carries `ttlSeconds`. */
export async function openDnsServer(
  answer: (question: DnsQuestion) => DnsAnswer,
  options: { readonly ttlSeconds?: number } = {},
): Promise<DnsServer> {
  const socket = createSocket('udp4');
  const questions: string[] = [];
  const counts = new Map<string, number>();
  socket.on('message', (message, from) => {
    const { name, type } = readQuestion(message);
    if (type === undefined) return;
    const question = `${type} ${name}`;
    const earlier = counts.get(question) ?? 0;
    counts.set(question, earlier + 1);
    questions.push(question);
    const answered = answer({ name, type, earlier });
    if (answered === 'nothing') return;
    socket.send(writeResponse(message, answered, options.ttlSeconds ?? 0), from.port, from.address);
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  return {
    address: `127.0.0.1:${socket.address().port}`,
    questions,
    close: () => new Promise((resolve) => socket.close(() => resolve())),
  };
}

function readQuestion(message: Buffer): { name: string; type: 'A' | 'AAAA' | undefined; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = message[at] ?? 0; length > 0; length = message[at] ?? 0) {
    labels.push(message.toString('latin1', at + 1, at + 1 + length));
    at += length + 1;
  }
  const type = ({ 1: 'A', 28: 'AAAA' } as const)[message.readUInt16BE(at + 1)];
  return { name: labels.join('.').toLowerCase(), type, end: at + 5 };
}

/** RFC 1035 section 4: the header and the question are echoed, each record points back to the question's name. */
function writeResponse(query: Buffer, answer: Exclude<DnsAnswer, 'nothing'>, ttlSeconds: number): Buffer {
  const { end } = readQuestion(query);
  const addresses = typeof answer === 'string' ? [] : answer;
  const code = answer === 'notFound' ? 3 : answer === 'serverFailure' ? 2 : 0;
  const head = Buffer.from(query.subarray(0, end));
  head.writeUInt16BE(0x8580 | code, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(addresses.length, 6);
  head.writeUInt32BE(0, 8);
  return Buffer.concat([head, ...addresses.map((address) => writeRecord(address, ttlSeconds))]);
}

function writeRecord(address: string, ttlSeconds: number): Buffer {
  const bytes = address.includes(':') ? ipv6Bytes(address) : Buffer.from(address.split('.').map(Number));
  const record = Buffer.alloc(12);
  record.writeUInt16BE(0xc00c, 0);
  record.writeUInt16BE(bytes.length === 4 ? 1 : 28, 2);
  record.writeUInt16BE(1, 4);
  record.writeUInt32BE(ttlSeconds, 6);
  record.writeUInt16BE(bytes.length, 10);
  return Buffer.concat([record, bytes]);
}

function ipv6Bytes(address: string): Buffer {
  // The URL parser turns a dotted tail into groups.
  const groups = new URL(`http://[${address}]/`).hostname.slice(1, -1).split('::');
  const [front = [], back = []] = groups.map((part) => part.split(':').filter((group) => group !== ''));
  const all = [...front, ...Array<string>(8 - front.length - back.length).fill('0'), ...back];
  return Buffer.from(all.map((group) => group.padStart(4, '0')).join(''), 'hex');
}
