import type { Domain } from '../../src/domain.ts';
import type { TestApp } from './app.ts';
import { startSecondApp } from './second-app.ts';

/** Two processes that serve one installation, as behind a balancer: clients ask one, and the other where that one refuses. */
export interface RollingNodes {
  /** Where the `attempt`-th try of a client leads. */
  node(attempt: number): TestApp;
  /** Replaces the node at this place: stops it, then starts another one. */
  restart(place: number): Promise<void>;
  stop(): Promise<void>;
}

/** Starts two nodes beside a running app, which keeps the data and is not restarted. */
export async function startRollingNodes(
  base: TestApp,
  { domain, drainSeconds }: { readonly domain: Domain; readonly drainSeconds: number },
): Promise<RollingNodes> {
  const start = () => startSecondApp(base, { domain, env: { ROLES: 'api', DRAIN_SECONDS: String(drainSeconds) } });
  const nodes = [await start(), await start()];
  const at = (place: number): TestApp => {
    const node = nodes[place % nodes.length];
    if (node === undefined) throw new Error('there are two nodes');
    return node;
  };
  return {
    node: at,
    async restart(place) {
      await at(place).stop();
      nodes[place % nodes.length] = await start();
    },
    async stop() {
      await Promise.all(nodes.map((node) => node.stop()));
    },
  };
}
