import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createEmbeddedFolder, type EmbeddedFolder } from './support/database.ts';
import { eventually } from './support/eventually.ts';
import { type FanfareProcess, startFanfare } from './support/fanfare-process.ts';

let folder: EmbeddedFolder;
let server: FanfareProcess;
let unfinished: Socket;

beforeEach(async () => {
  folder = await createEmbeddedFolder();
  server = await startFanfare({ DATA_DIR: folder.dataDir, DRAIN_SECONDS: '600' });
  // a request that never ends keeps the server draining
  unfinished = connect(Number(new URL(server.url).port), '127.0.0.1');
  await once(unfinished, 'connect');
  unfinished.write(
    'POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{',
  );
  unfinished.on('error', () => {}); // the server may end first
  // answered on the same port after it: the unfinished one has been read
  await fetch(server.url.replace('/graphql', '/healthz'));
});
afterEach(async () => {
  unfinished.destroy();
  await server.kill();
  await folder.remove();
});

it('stops in order when Ctrl-C comes twice at once, as npm makes it', async () => {
  server.child.kill('SIGINT');
  await eventually(() => server.output().includes('stopping, in at most'));
  server.child.kill('SIGINT');
  unfinished.end('}');
  unfinished.destroy();
  expect(await ended()).toEqual([0, null]);
});

async function ended() {
  await eventually(() => server.child.exitCode !== null || server.child.signalCode !== null);
  return [server.child.exitCode, server.child.signalCode];
}
