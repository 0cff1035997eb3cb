import { readFileSync } from 'node:fs';
import { systemClock } from '../runtime/clock.ts';
import { runLoop } from '../runtime/loop.ts';
import { createAddressPolicy } from '../webhooks/addresses.ts';
import { createSender } from '../webhooks/attempt.ts';
import { provideFieldServices } from '../webhooks/field-services.ts';
import { type CallbackGuard, createCallbackGuard } from '../webhooks/guard.ts';
import { pruneDeliveries } from '../webhooks/prune.ts';
import { runReplays } from '../webhooks/replayer.ts';
import { createResolver } from '../webhooks/resolver.ts';
import { createSealer, type Sealer } from '../webhooks/seal.ts';
import { createWebhookWorker } from '../webhooks/worker.ts';
import { idleAfter, listenForHints, type RoleOptions, type Service, STAMPED } from './services.ts';

/** What registering and sending have in common. */
interface Callbacks {
  readonly guard: CallbackGuard;
  readonly sealer: Sealer;
}

/** Lets the fields of webhooks work in this process; in each role, since every role has the schema. */
export function provideCallbacks({ stores, engine, config, observe }: RoleOptions): Callbacks {
  const guard = createCallbackGuard({
    policy: createAddressPolicy({ allowCidrs: config.webhooks.allowCidrs }),
    resolver: createResolver({ servers: config.webhooks.dnsServers }),
    publicUrl: config.publicUrl,
    now: systemClock.now,
  });
  const sealer = createSealer({ key: stores.secretsKey, previousKey: config.secretsKeyPrevious });
  const quota = { perAccount: config.webhooks.perAccount, perOrigin: config.webhooks.perOrigin };
  provideFieldServices(engine.services, { guard, sealer, schema: engine.schema, observe, quota });
  return { guard, sealer };
}

/** The role `webhooks`: sends what is due, steps replays, and forgets what is past retention. */
export function createCallbackService(options: RoleOptions, { guard, sealer }: Callbacks): Service {
  const { stores, engine, config, observe } = options;
  const sender = createSender({ guard, version: readVersion(), proxy: config.webhooks.proxyUrl });
  const services = { ...engine.services, database: stores.engineDatabase };
  const worker = createWebhookWorker({
    engine: services,
    schema: engine.schema,
    sender,
    sealer,
    observe,
    onCaptured: engine.onCaptured,
    originRate: config.webhooks.originRate,
    drainMs: config.drainSeconds * 1_000,
    pollMs: stores.engineDatabase.kind === 'pglite' ? 500 : 250,
  });
  const { retentionDays } = config;
  return async (signal) => {
    const subscription = await stores.bus.subscribe(
      STAMPED,
      listenForHints(() => worker.wake()),
    );
    await Promise.all([
      worker.run(signal),
      runReplays(
        {
          engine: services,
          observe,
          onBorn: () => worker.wake(),
          pollMs: stores.engineDatabase.kind === 'pglite' ? 500 : 200,
        },
        signal,
      ),
      runLoop({
        name: 'webhooks.prune',
        everyMs: 3_600_000,
        signal,
        observe,
        work: idleAfter(() => pruneDeliveries(stores.engineDatabase, { retentionDays }, observe)),
      }),
    ]);
    await subscription.close();
    await sender.close();
  };
}

/** Of the package, for the `user-agent` of callbacks. */
function readVersion(): string {
  // our own file: its form is known
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return version;
}
