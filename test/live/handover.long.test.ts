import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readMetric } from '../support/api-user.ts';
import { BACKENDS, startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { collect, stockClient } from '../support/live-client.ts';
import { attachUnderLoad } from '../support/live-handover.ts';
import { createProbeDomain } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';

describe.each(BACKENDS)('from replay to live on %s', (backend) => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ backend, domain: createProbeDomain().domain, domainMigrations: toyMigrations });
  });
  afterAll(() => app.stop());

  it.each([1, 2, 3])(
    '300 subscribers that attach under load get exactly what lies behind their cursors (%i)',
    async () => {
      await attachUnderLoad(app, 300);
    },
  );

  it('2,000 sockets that come and go leave nothing', async () => {
    for (let round = 0; round < 40; round++) {
      const clients = Array.from({ length: 50 }, () => stockClient(app.wsUrl, app.key));
      for (const client of clients) collect(client, 'subscription { events { position } }');
      await eventually(async () => (await readMetric(app, 'fanfare_streams')) > 0);
      await Promise.all(clients.map((client) => client.dispose()));
    }
    await eventually(async () => (await readMetric(app, 'fanfare_streams')) === 0);
    expect(await readMetric(app, 'fanfare_stream_groups')).toBe(0);
  });
});
