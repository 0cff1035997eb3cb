import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BACKENDS, startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { attachUnderLoad, settledHead, untilPublished } from '../support/live-handover.ts';
import { openNaiveWatch } from '../support/naive-watch.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';

describe.each(BACKENDS)('from replay to live on %s', (backend) => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ backend, domain: createProbeDomain().domain, domainMigrations: toyMigrations });
  });
  afterAll(() => app.stop());

  it('24 subscribers that attach under load get exactly what lies behind their cursors', async () => {
    await attachUnderLoad(app, 24);
  });

  // the bus that a naive watch can listen to from outside
  if (backend === 'postgres and redis') {
    it('a watch that replays and then listens to the bus misses what comes in between (negative control)', async () => {
      const write = async () => settledHead(app, (await notesWrite(app, { count: 1 })).cursor);
      const naive = await openNaiveWatch(app, { beforeListening: async () => untilPublished(app, await write()) });
      const head = await write();
      await eventually(() => naive.seen.has(head), { describe: 'the naive watch to hear the bus' });
      expect(naive.missing(head)).toBe(1);
      await naive.close();
    });
  }
});
