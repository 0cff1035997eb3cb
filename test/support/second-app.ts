import { readConfig } from '../../src/config.ts';
import type { Domain } from '../../src/domain.ts';
import { describeKeyFault } from '../../src/identity/key-format.ts';
import { compose } from '../../src/main/compose.ts';
import { nearest } from '../../src/runtime/spelling.ts';
import { post, type TestApp } from './app.ts';

/** Starts another instance on the data of a running one: their settings, less what `env` changes. Stop it before the first. */
export async function startSecondApp(
  first: TestApp,
  { domain, env: changed = {} }: { readonly domain: Domain; readonly env?: Readonly<Record<string, string>> },
): Promise<TestApp> {
  const env = { ...first.env, PORT: '0', ...changed };
  const observations: TestApp['observations'][number][] = [];
  const app = await compose({
    config: readConfig(env, { describeKeyFault, nearest }),
    domain,
    observe: (observation) => void observations.push(observation),
    onFatal: (error) => {
      throw error;
    },
  });
  const url = `http://127.0.0.1:${app.port}/graphql`;
  return {
    app,
    url,
    wsUrl: url.replace('http', 'ws'),
    key: first.key,
    env,
    observations,
    post: (query, variables, headers) => post({ url, key: first.key }, { query, variables }, headers),
    stop: () => app.stop(),
  };
}
