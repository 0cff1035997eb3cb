import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { domain } from '#domain';
import { createBoard, WAYS, type Way } from '../../schema/tools/tour/board.ts';
import type { Leg } from '../../schema/tools/tour/journey.ts';
import { findDifferences, writeTourReport } from '../../schema/tools/tour/report.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { ask, finishTool, runTool } from './tool.ts';

describe('tour', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({ backend: 'postgres', domain });
  });
  afterAll(() => app?.stop());

  test('shows an order’s event as it came in four ways, finds them equal, and deletes its webhook', async () => {
    const { code, out, said } = await finishTool('tour', ['--url', app.url, '--key', app.key]);
    expect(said).toBe('');
    expect(out).toContain('Equal: each of the 3 events is the same JSON on all four ways.');
    const shown = out.split('\n').filter((line) => line.includes('"id": "evt_'));
    expect(shown).toHaveLength(4);
    expect(new Set(shown).size).toBe(1);
    expect(out).toMatch(/order\.shipped( +-?\d+){4}\n/);
    expect(code).toBe(0);
    expect(await listWebhooks(app)).toEqual([]);
  });

  test('says in one message that the key is refused', async () => {
    const refused = await finishTool('tour', ['--url', app.url, '--key', 'ff_none']);
    expect(refused.said).toMatch(/^tour: the key is refused: .*\n$/);
    expect(refused.code).toBe(1);
  });

  test('tells how a server is started that calls back to a host', async () => {
    const args = ['--url', app.url, '--key', app.key, '--callback-host', '192.0.2.1'];
    const { code, said } = await finishTool('tour', args);
    expect(said).toMatch(/^tour: the server does not call back to http:.*WEBHOOK_ALLOW_CIDRS=192\.0\.2\.1\/32\n$/);
    expect(code).toBe(1);
  });
});

test('tells how a server is started that calls back to this machine', async () => {
  const app = await startApp({ backend: 'postgres', domain, env: { WEBHOOK_ALLOW_CIDRS: '' } });
  onTestFinished(app.stop);
  const { code, said } = await finishTool('tour', ['--url', app.url, '--key', app.key]);
  expect(said).toContain('start it with WEBHOOK_ALLOW_CIDRS=127.0.0.0/8');
  expect(code).toBe(1);
});

test('deletes its webhook at Ctrl-C, while it waits for a callback that nobody sends', async () => {
  const app = await startApp({ backend: 'postgres and redis', domain, env: { ROLES: 'api,relay' } });
  onTestFinished(app.stop);
  const tour = runTool('tour', ['--url', app.url, '--key', app.key]);
  await tour.untilOut('4. ');
  expect(await listWebhooks(app)).toHaveLength(1);
  tour.kill('SIGINT');
  expect(await tour.code).toBe(1);
  expect(tour.said()).toContain('tour: stopped\n');
  expect(tour.out()).toContain('The webhook is deleted');
  expect(await listWebhooks(app)).toEqual([]);
});

describe('what the ways brought', () => {
  test('differs if one fact of one event does', () => {
    const same = leg({});
    expect(findDifferences([same])).toEqual([]);
    for (const way of WAYS) expect(findDifferences([same, leg({ [way]: { total: '1.1' } })])).toEqual(['order.paid']);
    expect(writeTourReport([leg({ SSE: { cursor: 'c' } })])).toContain('NOT EQUAL: order.paid differ');
  });

  test('is waited for until it comes, fails, or is late', async () => {
    const board = createBoard({ patienceMs: 20 });
    const event = { id: 'evt_1', name: 'order.placed' };
    const waited = board.wait('SSE', 'order.placed');
    board.arrived('SSE', event);
    board.arrived('SSE', { ...event, id: 'evt_2' });
    expect((await waited).event).toBe(event);
    await expect(board.wait('webhook', 'order.placed')).rejects.toThrow(
      'order.placed did not come by webhook within 0.02 s',
    );
    board.fail(new Error('the socket broke'));
    await expect(board.wait('query', 'order.placed')).rejects.toThrow('the socket broke');
  });
});

/** Of `order.paid`, the same on each way but for what is given. */
function leg(other: Partial<Record<Way, Readonly<Record<string, unknown>>>>): Leg {
  const arrival = (way: Way) => ({ atMs: 5, event: { id: 'evt_1', name: 'order.paid', total: '1.10', ...other[way] } });
  const [query, WebSocket, SSE, webhook] = [arrival('query'), arrival('WebSocket'), arrival('SSE'), arrival('webhook')];
  return { name: 'order.paid', answeredAtMs: 0, arrivals: { query, WebSocket, SSE, webhook } };
}

async function listWebhooks(app: TestApp): Promise<readonly unknown[]> {
  const { webhooks } = await ask(app, '{ webhooks { nodes { id } } }');
  return webhooks.nodes;
}
