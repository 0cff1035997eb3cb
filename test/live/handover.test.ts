import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BACKENDS, startApp, type TestApp } from '../support/app.ts';
import { attachUnderLoad, settledHead, startWriters } from '../support/live-handover.ts';
import { openNaiveWatch } from '../support/naive-watch.ts';
import { createProbeDomain } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';

describe.each(BACKENDS)('from replay to live on %s', (backend) => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ backend, domain: createProbeDomain().domain, domainMigrations: toyMigrations });
  });
  afterAll(() => app.stop());

  const trials = backend === 'embedded' ? 50 : 80;
  it(`${trials} subscribers that attach under load get exactly what lies behind their cursors`, async () => {
    await attachUnderLoad(app, trials);
  });

  // the bus that a naive watch can listen to from outside
  if (backend === 'postgres and redis') {
    it('a watch that replays and then listens to the bus misses some (negative control)', async () => {
      const writers = startWriters(app);
      const watches = [];
      for (let trial = 0; trial < 30; trial++) watches.push(await openNaiveWatch(app));
      await writers.stop();
      const head = await settledHead(app, writers.cursors.at(-1) ?? '');
      const missed = watches.map((watch) => watch.missing(head));
      await Promise.all(watches.map((watch) => watch.close()));
      expect(missed.some((count) => count > 0)).toBe(true);
    });
  }
});
