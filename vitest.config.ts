import { configDefaults, defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const isLong = Boolean(process.env.FANFARE_LONG);

/** Files that take long, the longest first: begun last, one of them would run alone at the end. */
const LONG_FILES = [
  ...[
    'kill/',
    'chaos/',
    'live/bus-faults',
    'client/',
    'live/non-readers',
    'consumers/',
    'live/lifecycles',
    'tools/',
    'readme/',
    'examples/',
    'refusals',
    'cli',
    'log/retention',
    'live/handover',
    'http/idempotency',
  ],
  ...['log/sequencer-faults', 'support-servers', 'journey', 'webhooks/worker', 'live/revocation'],
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
