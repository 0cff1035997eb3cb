import { setTimeout as wait } from 'node:timers/promises';
import type { Controls } from './controls.ts';
import type { Deployment } from './deployment.ts';
import type { Marker } from './log.ts';
import type { ReplayClient } from './replay-client.ts';
import type { RoleProcess } from './role-process.ts';
import type { Kill, Manner } from './schedule.ts';

/** Where the kills happen. */
export interface Stage {
  readonly deployment: Deployment;
  readonly marker: Marker;
  readonly client: ReplayClient;
  readonly controls: Controls;
}

/**
 * Carries a schedule out, kill by kill, as the load passes its marks.
 * @returns how often each process, and `redis`, was killed
 * @throws Error if the load is over before: then a kill would prove nothing
 */
export async function strikeAll(stage: Stage, schedule: readonly Kill[]): Promise<Readonly<Record<string, number>>> {
  let redis = 0;
  for (const kill of schedule) {
    await passes(stage, kill.mark);
    if (kill.manner === 'steady') await steady(stage);
    if (kill.victim === 'redis') {
      await strikeRedis(stage);
      redis += 1;
    } else await strikeRole(stage, kill);
  }
  const counts = [...stage.deployment.roles].map(([name, { kills }]) => [name, kills.all] as const);
  return { ...Object.fromEntries(counts), ...(redis > 0 ? { redis } : {}) };
}

/** All processes serve, and what was committed is stamped. */
export async function stands({ deployment, marker }: Pick<Stage, 'deployment' | 'marker'>): Promise<void> {
  await Promise.all([...deployment.roles.values()].map((role) => role.stands()));
  await marker.mark();
}

/** Half of the load's own patience. A request that was held halfway, which the server no longer waits for, is sent again. */
const HOLD_AT_MOST_MS = 60_000;

/** The load waits until all stand, as long as it can be held, and then has gone on. */
async function steady(stage: Stage): Promise<void> {
  const { client } = stage;
  client.hold();
  const standing = stands(stage);
  await Promise.race([standing, wait(HOLD_AT_MOST_MS)]);
  client.release();
  await standing;
  await passes(stage, client.ledger().length + 3);
}

async function passes({ client }: Stage, changes: number): Promise<void> {
  if (await client.reaches(changes)) return;
  throw new Error(`the load ended after ${client.ledger().length} changes, before ${changes}: ${client.output()}`);
}

async function strikeRole({ deployment, client, controls }: Stage, { victim, manner, lot }: Kill): Promise<void> {
  const role = deployment.roles.get(victim);
  if (role === undefined) throw new Error(`there is no process "${victim}" to kill`);
  await killWith(controls, role, manner);
  if (manner !== 'twice') return;
  // without the process that takes changes nothing progresses: then the lot is a moment
  await Promise.race([client.reaches(client.ledger().length + Math.ceil(lot * 20)), wait(lot * 700)]);
  await role.kill();
}

const SENDERS = ['webhooks', 'server'];

/** The careless sender dies with the process that it stands beside: if steadily, in the middle of a page. */
async function killWith({ sender }: Controls, role: RoleProcess, manner: Manner): Promise<void> {
  if (sender === undefined || !SENDERS.includes(role.name)) return role.kill();
  if (manner === 'steady') await sender.isInPage();
  await Promise.all([role.kill(), sender.kill()]);
}

/** Down until twenty more changes are acknowledged, and until events were stamped that it could not carry. */
async function strikeRedis(stage: Stage): Promise<void> {
  const { redis } = stage.deployment;
  if (redis === undefined) throw new Error('there is no Redis to kill');
  await redis.kill();
  await passes(stage, stage.client.ledger().length + 20);
  await stage.marker.mark();
  await redis.start();
}
