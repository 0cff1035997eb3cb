import { inject } from 'vitest';
import { type RedisServer, startRedis } from './redis-server.ts';

/** The run's shared Redis. Channels and keys carry the installation, so a test needs no Redis of its own to be alone. */
export function redisUrl(): string {
  return inject('run').redisUrl;
}

/** A Redis that the test owns: it may be stopped, killed and frozen. */
export function startTestRedis(): Promise<RedisServer> {
  return startRedis({ scratchDir: inject('run').scratchDir });
}
