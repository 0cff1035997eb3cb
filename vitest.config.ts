import { configDefaults, defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const isLong = Boolean(process.env.FANFARE_LONG);

/**
 * Files that take long, the longest first, by what a run on two busy cores measured on 2026-11-22: begun last, one of them would run
 * alone at the end.
 */
const LONG_FILES = [
  ...['kill/', 'chaos/', 'live/bus-faults', 'tools/', 'readme/', 'consumers/', 'cli.test', 'client/keys'],
  ...['http/idempotency', 'live/stalled', 'live/handover', 'live/non-readers', 'live/revocation', 'live/token-refresh'],
  ...[
    'log/sequencer-faults',
    'refusals',
    'journey',
    'live/rolling-restart',
    'http/limits',
    'log/leases',
    'live/streams',
  ],
  ...['live/snapshot', 'live/sharing', 'live/drain', 'log/retention', 'webhooks/delivery', 'webhooks/worker'],
  ...['webhooks/registration', 'live/lifecycles', 'support-servers', 'data-folder', 'store/large-orders', 'log/order'],
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const at = LONG_FILES.findIndex((name) => moduleId.includes(`/test/${name}`));
      return at < 0 ? LONG_FILES.length : at;
    };
    return files.toSorted((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  // As Node resolves packages: the default, "development", gives a second copy of graphql beside the one that Pothos got.
  ssr: { resolve: { conditions: ['module-sync', 'node'] } },
  test: {
    include: ['test/**/*.test.ts'],
    // The same faults over more rounds: `npm run test:long`.
    exclude: isLong ? configDefaults.exclude : [...configDefaults.exclude, '**/*.long.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/leak-guard.ts'],
    pool: 'forks',
    // Each may hold a PGlite (up to 700 MB); they wait more than they compute.
    maxWorkers: 4,
    sequence: { sequencer: LongestFirst },
    // Longer than `eventually` waits, so that a test that fails says what it waited for.
    testTimeout: isLong ? 600_000 : 120_000,
    hookTimeout: 120_000,
    teardownTimeout: 60_000,
  },
});
