import type { Domain } from '#engine';
import { startApp, type TestApp } from '../support/app.ts';
import { createProbeDomain } from '../support/probe-domain.ts';
import { startSecondApp } from '../support/second-app.ts';
import { freePort } from '../support/servers.ts';
import { openTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { toyMigrations } from '../support/toy-domain.ts';

/** A server that goes and comes back on one port, on the data of another that stays; and a wire to it. */
export interface RestartingApp {
  /** Writes are asked of it. */
  readonly staying: TestApp;
  readonly wire: TcpProxy;
  /** Through the wire. */
  readonly url: string;
  readonly wsUrl: string;
  readonly key: string;
  /** Drains and goes. */
  stop(): Promise<void>;
  /** Comes back. */
  start(): Promise<void>;
  close(): Promise<void>;
}

export async function startRestartingApp(): Promise<RestartingApp> {
  const { domain }: { readonly domain: Domain } = createProbeDomain();
  const staying = await startApp({ backend: 'postgres and redis', domain, domainMigrations: toyMigrations });
  const port = await freePort();
  const wire = await openTcpProxy({ port });
  const env = { PORT: String(port), ROLES: 'api', DRAIN_SECONDS: '1' };
  let running: TestApp | undefined;
  const stop = async () => {
    await running?.stop();
    running = undefined;
  };
  const start = async () => {
    running = await startSecondApp(staying, { domain, env });
  };
  await start();
  const url = wire.through(`http://127.0.0.1:${port}/graphql`);
  return {
    staying,
    wire,
    url,
    wsUrl: url.replace('http', 'ws'),
    key: staying.key,
    stop,
    start,
    async close() {
      await wire.close();
      await stop();
      await staying.stop();
    },
  };
}
