import { defineConfig } from 'vitest/config';

/** For tests that read the sources only: no servers are started. */
export default defineConfig({ test: { include: ['test/**/*.test.ts'], pool: 'forks' } });
