import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { ensurePrograms } from '../examples/programs.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/servers.ts';
import { blocksFor } from './blocks.ts';
import { checkOut, type Project, startServer } from './project.ts';
import type { Terminal } from './terminal.ts';

// A reader's first ten minutes: the README's commands, in order, as printed but for the ports.

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 }); // each command may take its time on a busy machine

const pages = blocksFor('commands');
const terminals: Terminal[] = [];
let project: Project;
let server: Terminal;
let reader: Terminal;
let callbackPort: number;

beforeAll(async () => {
  await ensurePrograms('curl');
  [project, callbackPort] = await Promise.all([checkOut({ hasData: true }), freePort()]);
  server = await startServer(project, { DRAIN_SECONDS: '1' });
  reader = openTerminal();
});

afterAll(async () => {
  await Promise.all([...terminals, server].map((each) => each?.close()));
  await rm(project.dir, { recursive: true, force: true });
});

describe('pull, watch, be called', () => {
  const change = `npx fanfare ask 'mutation { productCreate(input: { sku: "TEA-`;
  let watching: Terminal;
  let streaming: Terminal;

  test('watches over WebSocket and SSE', async () => {
    watching = openTerminal();
    const [watch = '', stream = ''] = command('npx fanfare watch ').split(/^(?=curl)/m);
    watching.start(watch);
    await watching.untilPrints(/connected/);
    streaming = openTerminal();
    streaming.start(stream);
    await eventually(async () => expect(await metric('fanfare_streams')).toBe(2), { deadlineMs: 60_000 });
  });

  test('sees a change arrive in both', async () => {
    const answer = JSON.parse(await reader.run(command(`${change}1"`)));
    expect(answer).toEqual({
      data: { productCreate: { product: { id: expect.stringMatching(/^prod_/) }, cursor: expect.any(String) } },
    });
    const event = eventIn(await watching.untilPrints(/^\{.*TEA-1.*$/m));
    expect(event).toMatchObject({ name: 'product.created', subjectId: answer.data.productCreate.product.id });
    const { position, cursor } = event;
    const streamed = JSON.parse((await streaming.untilPrints(/^data: ?(\{.*product\.created.*)$/m))[1] ?? '');
    expect(streamed.data.events).toMatchObject({ name: 'product.created', position, cursor });
  });

  test('pulls the same', async () => {
    const [ask = '', curl = ''] = command("npx fanfare ask '{ head").split(/^(?=curl)/m);
    const { data } = JSON.parse(await reader.run(ask));
    const { name, position, cursor } = eventIn(await watching.untilPrints(/^\{.*TEA-1.*$/m));
    const product = { sku: 'TEA-1', price: { amount: '4.50', currency: 'EUR' } };
    expect(data).toEqual({ head: cursor, events: { nodes: [{ name, position, cursor, product }] } });
    const again = JSON.parse(await reader.run(curl));
    expect(again.data).toEqual({ head: cursor, events: { nodes: [{ name, position, cursor }] } });
  });

  test('is called back, and verifies the signature', async () => {
    expect(await reader.run(command('ANSWER='))).toContain('"secret": "whsec_');
    reader.start(command('node examples/receiver-node.mjs &'));
    await reader.untilPrints(/listening on/);
    await reader.run(command(`${change}2"`));
    const [, id, type, data = ''] = await reader.untilPrints(/^verified (\S+) (\S+) (.*)$/m);
    const event = eventIn(await watching.untilPrints(/^\{.*TEA-2.*$/m));
    expect([id, type]).toEqual([expect.stringMatching(/^dlv_/), 'product.created']);
    expect(JSON.parse(data)).toMatchObject({
      id: event.id,
      position: event.position,
      cursor: event.cursor,
      product: { sku: 'TEA-2' },
    });
  });
});

test('takes the tour, and replays invoices', async () => {
  const terminal = openTerminal();
  const [tour = '', replay = ''] = command('npm run tour').split(/^(?=npm run replay)/m);
  expect(await terminal.run(`${tour}echo ended with $?`)).toMatch(/^Equal: .*^ended with 0$/ms);
  expect(await terminal.run(`${replay}echo ended with $?`)).toMatch(/^ended with 0$/m);
});

test('shows the orders by the typed client', async () => {
  const [program = '', generate = ''] = pages.take('docs/clients.md', 'node examples').split(/^(?=npm)/m);
  const client = openTerminal();
  const port = await freePort();
  client.start(program.replace('main.ts', `main.ts http://127.0.0.1:${project.port}/graphql ${port}`));
  expect(await reader.run(`${generate}echo ended with $?`)).toContain('ended with 0');
  await client.untilPrints(/^pulled: \d+ /m);
});

test('fetches by a consumer, and works off what comes', async () => {
  const [create = '', change = '', poll = '', ack = ''] = pages
    .take('docs/consumers.md', "npx fanfare ask 'mutation { consumerCreate")
    .split(/^(?=npx|BATCH)/m);
  expect(await reader.run(create)).toContain('"id": "cns_');
  await reader.run(change);
  expect(await reader.run(poll)).toContain('"name": "product.created"');
  expect(JSON.parse(await reader.run(ack))).toMatchObject({ data: { consumerAck: { consumer: { behind: 0 } } } });
  const worker = openTerminal();
  const program = pages.take('docs/consumers.md', 'node examples/consumer-node.mjs').trimEnd();
  worker.start(`${program} http://127.0.0.1:${project.port}/graphql\n`);
  await reader.run(change.replace('TEA-3', 'TEA-4'));
  await worker.untilPrints(/^worked off \d+ product\.created prod_/m);
});

test('replaces the epoch when the server has stopped', async () => {
  const terminal = openTerminal();
  const epochNew = pages.take('docs/operations.md', 'npx fanfare epoch new');
  expect(await terminal.run(epochNew)).toContain('another process');
  await server.close();
  expect(await terminal.run(epochNew)).toMatch(/^[0-9a-f]{16}$/m);
});

test('checks the registered documents before a deploy', async () => {
  const check = pages.take('docs/webhooks.md', 'npm run check:documents');
  expect(await openTerminal().run(check)).toMatch(/^\d+ webhooks? checked: this schema breaks none$/m);
});

test('has run all its commands', () => {
  expect(pages.untaken()).toEqual([]);
});

function openTerminal(): Terminal {
  const terminal = project.open();
  terminals.push(terminal);
  return terminal;
}

/** A command of the README, at this test's ports. */
function command(begins: string): string {
  return pages
    .take('README.md', begins)
    .replaceAll('127.0.0.1:4000', `127.0.0.1:${project.port}`)
    .replaceAll('127.0.0.1:4001', `127.0.0.1:${callbackPort}`)
    .replaceAll('receiver-node.mjs', `receiver-node.mjs ${callbackPort}`);
}

function eventIn([line]: RegExpExecArray): Record<string, unknown> {
  return JSON.parse(line);
}

async function metric(name: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${project.port}/metrics`);
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(await response.text())?.[1]);
}
