import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chown, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { redisServerPath } from './binaries.ts';
import { createServerFolder, runServer, serverAccount, type ThrowawayServer } from './servers.ts';

export interface RedisServer extends ThrowawayServer {
  readonly url: string;
}

/**
 * Starts an empty Redis of its own on a free port of 127.0.0.1. It stores nothing: `stop()` and `kill()` lose all it knew,
 * which is what Fanfare must bear.
 */
export async function startRedis({ scratchDir }: { readonly scratchDir: string }): Promise<RedisServer> {
  const program = redisServerPath();
  const dir = await createServerFolder(scratchDir, 'redis');
  const password = randomBytes(12).toString('hex');
  await writeConfig(dir, password);
  const server = await runServer({
    dir,
    command: (port) => ({ file: program, args: [join(dir, 'redis.conf'), '--port', String(port)] }),
    probe: (port) => ping(port, password),
    stopSignal: 'SIGTERM',
  });
  return { ...server, url: `redis://:${password}@127.0.0.1:${server.port}` };
}

async function writeConfig(dir: string, password: string): Promise<void> {
  const file = join(dir, 'redis.conf');
  await writeFile(file, `bind 127.0.0.1\ndir ${dir}\nsave ""\nappendonly no\nrequirepass ${password}\n`, {
    mode: 0o600,
  });
  const account = serverAccount();
  if (account !== undefined) await chown(file, account.uid, account.gid);
}

async function ping(port: number, password: string): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  socket.setTimeout(2_000, () => socket.destroy(new Error('redis did not answer in 2 s')));
  try {
    socket.write(`AUTH ${password}\r\n`);
    const [answer] = await once(socket, 'data');
    if (!String(answer).startsWith('+OK')) throw new Error(`redis answered ${String(answer).trim()}`);
  } finally {
    socket.destroy();
  }
}

/** Closes the connections of all that listen, as an operator or a full buffer would. */
export async function killSubscribers({ url }: Pick<RedisServer, 'url'>): Promise<void> {
  await ask(url, 'CLIENT KILL TYPE pubsub', /^:\d+\r\n/m);
}

/** The channels with that beginning that somebody listens to. */
export async function countChannels({ url }: Pick<RedisServer, 'url'>, prefix: string): Promise<number> {
  const answer = await ask(url, `PUBSUB CHANNELS ${prefix}*`, /^\*\d+\r\n/m);
  return Number(/^\*(\d+)\r\n/m.exec(answer)?.[1]);
}

/** Sends one command on a connection of its own; gives what was answered when the expected had come. */
async function ask(url: string, command: string, expected: RegExp): Promise<string> {
  const { port, password } = new URL(url);
  const socket = connect(Number(port), '127.0.0.1');
  try {
    socket.write(`${password === '' ? '' : `AUTH ${password}\r\n`}${command}\r\n`);
    let answer = '';
    for await (const chunk of socket) {
      answer += String(chunk);
      if (expected.test(answer)) return answer;
    }
    throw new Error(`redis answered ${answer.trim()}`);
  } finally {
    socket.destroy();
  }
}
