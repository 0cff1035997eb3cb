import { Redis } from 'ioredis';
import { eventually } from '../eventually.ts';
import type { Cluster } from './cluster.ts';

/** Something that breaks while the load runs, and is over when it resolves. */
export interface Strike {
  readonly name: 'node killed' | 'Redis connections killed' | 'Redis restarted' | 'leader frozen';
  run(cluster: Cluster): Promise<void>;
}

/** Events that have to be stamped while something is down: else it hurt nobody. */
const WHILE_DOWN = 20;
const DOWN_AT_MOST_MS = 60_000;

/** By SIGKILL, and started again at once. */
export function killNode(at: number): Strike {
  return {
    name: 'node killed',
    async run(cluster) {
      const node = cluster.nodes[at % cluster.nodes.length];
      if (node === undefined) throw new Error(`there is no node ${at}`);
      const before = await cluster.head();
      await node.kill();
      await Promise.all([node.stands(), grows(cluster, before)]);
    },
  };
}

/** As an operator would, or a full buffer: those that listen, or those that publish. */
export function killRedisClients(type: 'pubsub' | 'normal'): Strike {
  return {
    name: 'Redis connections killed',
    async run({ redis }) {
      const client = new Redis(redis.url, { maxRetriesPerRequest: 0, retryStrategy: () => null });
      client.on('error', () => {}); // what a rejected command says, too
      try {
        await client.call('CLIENT', 'KILL', 'TYPE', type, 'SKIPME', 'yes');
      } finally {
        client.disconnect();
      }
    },
  };
}

/** `kill -9`, and back empty when events were stamped that it could not carry. */
export function restartRedis(): Strike {
  return {
    name: 'Redis restarted',
    async run(cluster) {
      const before = await cluster.head();
      await cluster.redis.kill();
      try {
        await grows(cluster, before);
      } finally {
        await cluster.redis.start();
      }
    },
  };
}

/** Frozen until the other relay has taken over and stamped, then thawed in the belief that it still leads. */
export function freezeLeader(): Strike {
  return {
    name: 'leader frozen',
    async run(cluster) {
      const [before, head] = await Promise.all([cluster.leader(), cluster.head()]);
      before.relay.signal('SIGSTOP');
      try {
        const isTaken = async () => (await cluster.leader()).owner !== before.owner;
        await eventually(isTaken, { deadlineMs: DOWN_AT_MOST_MS, describe: 'the other relay to take over' });
        await grows(cluster, head);
      } finally {
        before.relay.signal('SIGCONT');
      }
    },
  };
}

async function grows(cluster: Cluster, from: number): Promise<void> {
  const hasGrown = async () => (await cluster.head()) >= from + WHILE_DOWN;
  await eventually(hasGrown, { deadlineMs: DOWN_AT_MOST_MS, everyMs: 25, describe: `${WHILE_DOWN} more events` });
}
