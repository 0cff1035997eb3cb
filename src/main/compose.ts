import type { Config } from '../config.ts';
import type { Domain } from '../domain.ts';
import { StartupError } from '../errors.ts';
import { createMetrics } from '../runtime/metrics.ts';
import type { Observe } from '../runtime/observe.ts';
import { createApi } from './api.ts';
import { createCallbackService, provideCallbacks } from './callbacks.ts';
import { createEngine, createRelay, type Service } from './services.ts';
import { openStores } from './stores.ts';

export interface ComposeOptions {
  readonly config: Config;
  readonly domain: Domain;
  /** @default migrations/domain */
  readonly domainMigrations?: URL;
  readonly observe: Observe;
  /** For how long a quiet stream is told nothing of where it stands: tests shorten it. @default 10_000 (ms) */
  readonly checkpointMs?: number;
  /** Called if the running process can't go on; it should stop. */
  readonly onFatal: (error: StartupError) => void;
}

/** A running process. */
export interface App {
  readonly port: number;
  /** The file of the admin key, if the data folder made its own. */
  readonly adminKeyFile: string | undefined;
  readonly adminKey: string | undefined;
  /** Drains, stops the loops after the unit in hand, closes the stores. Twice is harmless. */
  stop(): Promise<void>;
}

/**
 * Puts a process together out of its settings and a domain, and starts it: it serves when this resolves.
 * @throws StartupError naming what is in the way; nothing stays open then
 */
export async function compose(options: ComposeOptions): Promise<App> {
  const { config, domain, onFatal } = options;
  const metrics = createMetrics();
  const observe: Observe = (observation) => {
    metrics.observe(observation);
    options.observe(observation);
  };
  const stores = await openStores({ config, domainMigrations: options.domainMigrations, observe, onFatal });
  const draining = new AbortController();
  const ending = new AbortController();
  try {
    const engine = await createEngine({ stores, domain, config });
    const role = { stores, domain, engine, config, observe };
    const callbacks = provideCallbacks(role);
    const api = createApi({
      ...role,
      draining: draining.signal,
      metrics: metrics.text,
      checkpointMs: options.checkpointMs,
    });
    metrics.gauge('fanfare_streams', 'Live streams that are open.', () => api.hub.count().streams);
    metrics.gauge('fanfare_stream_groups', 'Groups of equal live streams.', () => api.hub.count().groups);
    metrics.gauge('fanfare_connections', 'WebSockets and event streams that hold a place.', () =>
      stores.connections.held(),
    );
    metrics.gauge('fanfare_waiting_polls', 'Polls of consumers that wait for events.', () => api.waiting.count());
    const services: Service[] = [api.run];
    if (config.roles.includes('relay')) services.push(createRelay(role));
    const port = await api.server.listen(config.port, config.host);
    const serving = services.map((run) => run(ending.signal));
    // it drains beside the sockets, within the same time
    const calling = config.roles.includes('webhooks')
      ? createCallbackService(role, callbacks)(draining.signal)
      : undefined;
    const running = Promise.all([...serving, calling]);
    running.catch((error: unknown) => {
      observe({ name: 'process.service_failed', level: 'error', error });
      onFatal(new StartupError('a part of the server failed for good; see the log', { cause: error }));
    });

    let stopped: Promise<void> | undefined;
    const stop = async () => {
      draining.abort();
      try {
        await api.server.drain(config.drainSeconds * 1_000);
        ending.abort();
        await running;
      } finally {
        ending.abort();
        await stores.close();
      }
    };
    return {
      port,
      adminKey: stores.adminKey,
      adminKeyFile: stores.adminKeyFile,
      stop: () => {
        stopped ??= stop();
        return stopped;
      },
    };
  } catch (error) {
    draining.abort();
    ending.abort();
    await stores.close();
    throw error;
  }
}
