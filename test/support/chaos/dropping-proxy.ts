import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** A wire to Redis that can lose published messages, one by one, without a sign: all else passes. */
export interface DroppingProxy {
  readonly port: number;
  /** Messages lost so far. */
  readonly dropped: number;
  /** Loses each message of which `random` gives a number below `share`. */
  drop(share: number): void;
  close(): Promise<void>;
}

export async function openDroppingProxy(
  target: { readonly port: number },
  random: () => number,
): Promise<DroppingProxy> {
  const sockets = new Set<Socket>();
  const state = { share: 0, dropped: 0 };
  const server = createServer((near) => {
    const far = connect(target.port, '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from.setNoDelay(true));
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
    near.pipe(far);
    let rest: Buffer = Buffer.alloc(0);
    far.on('data', (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      for (let end = endOfReply(rest, 0); end !== undefined; end = endOfReply(rest, 0)) {
        const reply = rest.subarray(0, end);
        rest = rest.subarray(end);
        if (isMessage(reply) && random() < state.share) state.dropped += 1;
        else near.write(reply);
      }
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('expected a TCP address');
  return {
    port: address.port,
    get dropped() {
      return state.dropped;
    },
    drop(share) {
      state.share = share;
    },
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** In either version of the protocol a message is a list that begins with the word. */
function isMessage(reply: Buffer): boolean {
  return /^[*>]3\r\n\$7\r\nmessage\r\n/.test(reply.toString('latin1', 0, 20));
}

/**
 * Where the reply that begins at `at` ends; undefined while it is not whole.
 * @see https://redis.io/docs/latest/develop/reference/protocol-spec/
 */
function endOfReply(bytes: Buffer, at: number): number | undefined {
  const line = bytes.indexOf('\r\n', at);
  if (line < 0) return undefined;
  const type = bytes.toString('latin1', at, at + 1);
  const count = Number(bytes.toString('latin1', at + 1, line));
  let end: number | undefined = line + 2;
  if ('$=!'.includes(type) && count >= 0) end += count + 2;
  const parts = '*>~'.includes(type) ? count : type === '%' ? 2 * count : 0;
  for (let part = 0; part < parts && end !== undefined; part += 1) end = endOfReply(bytes, end);
  return end !== undefined && end <= bytes.length ? end : undefined;
}
