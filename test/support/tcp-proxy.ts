import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { freePort } from './servers.ts';

/**
 * A wire on loopback between a client and a server.
 *
 * - whole: forwards both ways;
 * - stalled, by `stall()`: connections stay open and new ones are accepted, nothing passes, not even an end. `heal()` lets
 *   all that was held through;
 * - cut, by `cut()`: connections are reset and new ones refused, until `heal()`.
 */
export interface TcpProxy {
  readonly port: number;
  /** The same URL, leading through the proxy. */
  through(url: string): string;
  cut(): Promise<void>;
  stall(): void;
  heal(): Promise<void>;
  close(): Promise<void>;
}

interface Pair {
  readonly near: Socket;
  readonly far: Socket;
}

export async function openTcpProxy(target: { readonly host?: string; readonly port: number }): Promise<TcpProxy> {
  const port = await freePort();
  const pairs = new Set<Pair>();
  let isStalled = false;
  // Half-open allowed: an end passes only when it is forwarded.
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ host: target.host ?? '127.0.0.1', port: target.port, allowHalfOpen: true });
    const pair = { near, far };
    pairs.add(pair);
    tie(pair, () => pairs.delete(pair));
    if (isStalled) hold(pair);
  });
  const listen = async () => {
    if (server.listening) return;
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  };
  const cut = async () => {
    const closed = server.listening ? new Promise((resolve) => server.close(resolve)) : undefined;
    for (const { near, far } of pairs) {
      reset(near);
      far.destroy();
    }
    isStalled = false;
    await closed;
  };
  await listen();
  return {
    port,
    through(url) {
      const led = new URL(url);
      led.host = `127.0.0.1:${port}`;
      return led.href;
    },
    cut,
    stall() {
      isStalled = true;
      for (const pair of pairs) hold(pair);
    },
    async heal() {
      isStalled = false;
      for (const pair of pairs) release(pair);
      await listen();
    },
    close: cut,
  };
}

function tie(pair: Pair, forget: () => void): void {
  release(pair);
  for (const [from, to] of directions(pair)) {
    from.setNoDelay(true);
    from.on('error', () => reset(to));
    from.on('close', () => {
      to.destroySoon(); // after what it still has to write
      if (to.closed) forget();
    });
  }
}

/** Node can't reset a socket in the middle of its orderly end: it fails with EINVAL, and never closes that socket. */
function reset(socket: Socket): void {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}

function release(pair: Pair): void {
  for (const [from, to] of directions(pair)) from.pipe(to);
}

function hold(pair: Pair): void {
  for (const [from, to] of directions(pair)) from.unpipe(to).pause();
}

function directions({ near, far }: Pair): readonly (readonly [Socket, Socket])[] {
  return [
    [near, far],
    [far, near],
  ];
}
