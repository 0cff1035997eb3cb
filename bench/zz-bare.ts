import type { Broadcast } from './baselines/broadcast.ts';
import { openBed } from './support/bed.ts';
import type { Crowd } from './support/crowd-program.ts';
import { untilAllHear } from './support/waves.ts';
import { startWorker } from './support/worker.ts';

const bed = await openBed({ profileDir: undefined });
try {
  const server = bed.own(
    startWorker<Broadcast>(new URL('baselines/broadcast.ts', import.meta.url), {
      cwd: bed.dir,
      execArgv: ['--heapsnapshot-signal=SIGUSR1', '--diagnostic-dir=/tmp/T/snap'],
    }),
  );
  const url = await server.call('listen');
  const crowd = bed.startWorker<Crowd>(new URL('support/crowd-program.ts', import.meta.url));
  let n = 0;
  for (const N of [500, 2000]) {
    await crowd.call('open', { url, key: 'none', sockets: N });
    n += N;
    await untilAllHear({
      crowd,
      sockets: n,
      senderPid: 0,
      send: (c) =>
        server.call(
          'broadcast',
          JSON.stringify({ id: 'socket-00000', type: 'next', payload: { data: { events: { position: '1' } } } }),
          c,
        ),
    });
    await new Promise((r) => setTimeout(r, 3000));
    process.kill(server.pid, 'SIGUSR1');
    await new Promise((r) => setTimeout(r, 6000));
  }
} finally {
  await bed.close();
}
process.exit(0);
