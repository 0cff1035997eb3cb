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
    const rank = ({ moduleId, project }: TestSpecification) => {
      const at = LONG_FILES.findIndex((name) => moduleId.includes(`/test/${name}`));
      // those that keep their workers together: one is kept only if such a file is next
      return (project.config.isolate ? 0 : 1_000) + (at < 0 ? LONG_FILES.length : at);
    };
    return files.toSorted((a, b) => rank(a) - rank(b));
  }
}

/** The same faults over more rounds: `npm run test:long`. */
const LEFT_OUT = isLong ? configDefaults.exclude : [...configDefaults.exclude, '**/*.long.test.ts'];

/**
 * Files that open all they use in their own process and close it again. A worker keeps the modules, warm, from one of them to the next:
 * six took 13 s of a core instead of 22 (measured on 2026-11-22). Not those that hurt or measure a process, nor the long form.
 */
const WARM = isLong
  ? []
  : [
      'test/{consumers,limits,store,webhooks}/*.test.ts',
      'test/http/!(idempotency).test.ts',
      'test/live/!(bus-faults|non-readers|stalled).test.ts',
      'test/log/!(sequencer-faults).test.ts',
    ];

// As Node resolves packages: the default, "development", gives a second copy of graphql beside the one that Pothos got.
const ssr = { resolve: { conditions: ['module-sync', 'node'] } };

const settings = {
  setupFiles: ['test/support/leak-guard.ts'],
  pool: 'forks' as const,
  // Each may hold a PGlite (up to 700 MB); they wait more than they compute.
  maxWorkers: 4,
  // Longer than `eventually` waits, so that a test that fails says what it waited for.
  testTimeout: isLong ? 600_000 : 120_000,
  hookTimeout: 120_000,
};

const fresh = { name: 'fresh', include: ['test/**/*.test.ts'], exclude: [...LEFT_OUT, ...WARM] };
const warm = { name: 'warm', include: WARM, exclude: LEFT_OUT, isolate: false };

export default defineConfig({
  test: {
    // Once, for both: they share one Postgres and one Redis.
    globalSetup: ['test/support/global-setup.ts'],
    maxWorkers: settings.maxWorkers,
    sequence: { sequencer: LongestFirst },
    teardownTimeout: 60_000,
    projects: (isLong ? [fresh] : [fresh, warm]).map((files) => ({ ssr, test: { ...settings, ...files } })),
  },
});
