import { makeKey } from '../src/identity/key-format.ts';
import { openBed } from './support/bed.ts';
import type { Crowd } from './support/crowd-program.ts';
import { postgresEnv, startServer } from './support/server.ts';
import { emitStockChanges } from './support/store.ts';
import { untilAllHear } from './support/waves.ts';

const bed = await openBed({ profileDir: undefined });
try {
  bed.begin('x');
  const databaseUrl = await bed.createDatabase();
  const key = makeKey();
  const shared = { ...postgresEnv(databaseUrl), REDIS_URL: bed.redisUrl, ADMIN_API_KEY: key };
  const api = await startServer(bed, {
    name: 'api',
    env: { ...shared, ROLES: 'api', NODE_OPTIONS: '--heapsnapshot-signal=SIGUSR2 --diagnostic-dir=/tmp/T/snap' },
  });
  await startServer(bed, { name: 'relay', env: { ...shared, ROLES: 'relay' } });
  const crowd = bed.startWorker<Crowd>(new URL('support/crowd-program.ts', import.meta.url));
  let n = 0;
  for (const N of [500, 2000]) {
    await crowd.call('open', { url: api.wsUrl, key, sockets: N });
    n += N;
    await untilAllHear({ crowd, sockets: n, senderPid: api.pid, send: (c) => emitStockChanges(databaseUrl, c) });
    await new Promise((r) => setTimeout(r, 5000));
    process.kill(api.pid, 'SIGUSR2');
    await new Promise((r) => setTimeout(r, 9000));
  }
} finally {
  await bed.close();
}
process.exit(0);
