import type { Worker } from '../../test/support/worker.ts';
import type { SignedPoster } from '../baselines/signed-posts.ts';
import type { Bed } from './bed.ts';
import { createClient } from './client.ts';
import type { CallbackReceiver, Received } from './receiver-program.ts';
import { type Cluster, type Server, startCluster } from './server.ts';
import { createWebhook } from './store.ts';

/** Deliveries under way to one webhook, at most: the worker's own cap, which the baseline gets too. */
export const WEBHOOK_CAP = 8;
/** Makes bodies of 2 KB. */
export const SKU_LENGTH = 1_470;

/** A cluster with webhooks, the receiver of all of them, and who posts to it without Fanfare. */
export interface CallbackStage {
  readonly bed: Bed;
  readonly cluster: Cluster;
  readonly worker: Server;
  readonly receiver: Worker<CallbackReceiver>;
  readonly poster: Worker<SignedPoster>;
  readonly origin: string;
  /** By path. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** Webhooks at `/hook/0` and so on. */
export async function openCallbackStage(bed: Bed, webhooks: number): Promise<CallbackStage> {
  const cluster = await startCluster(bed, { webhooks: true });
  if (cluster.webhooks === undefined) throw new Error('the cluster was started without the role webhooks');
  const receiver = bed.startWorker<CallbackReceiver>(new URL('receiver-program.ts', import.meta.url));
  const poster = bed.startWorker<SignedPoster>(new URL('../baselines/signed-posts.ts', import.meta.url));
  const origin = await receiver.call('listen');
  const client = createClient(cluster.api, 1);
  const secrets: Record<string, string> = {};
  for (let at = 0; at < webhooks; at++) secrets[`/hook/${at}`] = await createWebhook(client, `${origin}/hook/${at}`);
  await client.close();
  return { bed, cluster, worker: cluster.webhooks, receiver, poster, origin, secrets };
}

/** Posts so many times what Fanfare has sent, as fast as it goes. @returns how many a second */
export async function postBarely(
  { receiver, poster, origin, secrets }: CallbackStage,
  { count, body }: { readonly count: number; readonly body: string },
): Promise<number> {
  await receiver.call('begin', { count, secrets, verifyEach: 20 });
  const concurrency = Object.keys(secrets).length * WEBHOOK_CAP;
  await poster.call('run', { url: `${origin}/hook/0`, secret: secrets['/hook/0'] ?? '', count, concurrency, body });
  return rateOf(await receiver.call('finish'));
}

/** Arrivals a second, from the first to the last. */
export function rateOf({ arrivals }: Received): number {
  const first = arrivals[0]?.at ?? 0;
  const last = arrivals.at(-1)?.at ?? 0;
  return ((arrivals.length - 1) * 1_000) / (last - first);
}
