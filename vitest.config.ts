import { configDefaults, defineConfig } from 'vitest/config';

const isLong = Boolean(process.env.FANFARE_LONG);

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
    maxWorkers: 3,
    testTimeout: isLong ? 600_000 : 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 30_000,
  },
});
