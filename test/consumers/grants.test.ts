import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunOptions } from '../support/engine.ts';
import { ACK, type ConsumerEngine, CREATE, DELETE, openConsumerEngine, POLL, positionsIn } from './consumer-engine.ts';

const ALL = ['consumers:write', 'events:read', 'notes:read', 'webhooks:read'];

let engine: ConsumerEngine;
let other: string;

beforeAll(async () => {
  engine = await openConsumerEngine('postgres');
  other = await engine.addAccount();
  await engine.writeNotes(['a', 'b', 'c']);
  await engine.writeNotes(['d'], other);
});
afterAll(() => engine.close());

const start = () => engine.cursorOf(0);

describe('a name', () => {
  it('stands for one consumer: made again with the same filter it is the same, where it is', async () => {
    const filter = { types: ['NOTE_WRITTEN', 'NOTE_EDITED'], subjects: ['b', 'a', 'b'] };
    const made = await engine.create({ name: 'same', filter, startAfter: start() });
    await engine.ack('same', engine.cursorOf(2));
    const again = { types: ['NOTE_EDITED', 'NOTE_WRITTEN'], subjects: ['a', 'b'] };
    expect(await engine.create({ name: 'same', filter: again, startAfter: start() })).toMatchObject({
      id: made.id,
      position: '2',
    });
  });

  it.each([
    [{ types: ['NOTE_WRITTEN'] }, '"types" is ["note.written"], asked for was left out', {}],
    [{}, '"subjects" is left out, asked for was ["x"]', { subjects: ['x'] }],
    [{ related: ['x'] }, '"related" is ["x"], asked for was ["y"]', { related: ['y'] }],
  ])('with the filter %j says what differs: %s', async (filter, says, asked) => {
    const name = `filter-${says.length}`;
    await engine.create({ name, filter });
    expect(await engine.fail(CREATE, { variables: { name, filter: asked } })).toMatchObject({
      code: 'CONFLICT',
      message: expect.stringContaining(says),
    });
  });

  it('is made by many at once as one', async () => {
    const made = await Promise.all(
      Array.from({ length: 8 }, () => engine.create({ name: 'race', startAfter: start() })),
    );
    expect(new Set(made.map(({ id }) => id)).size).toBe(1);
  });

  it('of another account does not exist', async () => {
    const mine = await engine.create({ name: 'mine', startAfter: start() });
    const theirs: RunOptions = { accountId: other };
    for (const document of [POLL, ACK, DELETE]) {
      const variables = { name: 'mine', cursor: engine.cursorOf(1, other) };
      expect(await engine.fail(document, { ...theirs, variables })).toMatchObject({ code: 'NOT_FOUND' });
    }
    expect(await engine.consumer('mine', theirs)).toBeNull();
    const list = '{ consumers { nodes { name } } node(id: "ID") { id } }'.replace('ID', mine.id);
    expect(await engine.run(list, theirs)).toEqual({ consumers: { nodes: [] }, node: null });
    // the same name is free there, and gives that account's events
    await engine.create({ name: 'mine', startAfter: engine.cursorOf(0, other) }, theirs);
    expect(positionsIn(await engine.poll({ name: 'mine' }, theirs))).toEqual(['1']);
    expect(positionsIn(await engine.poll({ name: 'mine' }))).toHaveLength(3);
  });
});

describe('the scopes', () => {
  it.each([
    [CREATE, ['events:read', 'notes:read'], 'consumers:write'],
    [DELETE, ['events:read', 'notes:read'], 'consumers:write'],
    [ACK, ['events:read', 'notes:read'], 'consumers:write'],
    [POLL, ['events:read', 'notes:read'], 'consumers:write'],
    ['{ consumers { nodes { id } } }', ['events:read'], 'consumers:write'],
    ['{ consumer(name: "scopes") { id } }', ['events:read'], 'consumers:write'],
    [POLL, ['consumers:write', 'notes:read'], 'events:read'],
    [POLL, ['consumers:write', 'events:read'], 'notes:read'],
    [CREATE, ['consumers:write', 'notes:read'], 'events:read'],
    [CREATE, ['consumers:write', 'events:read'], 'notes:read'],
  ])('of %s need %j and %s', async (document, scopes, missing) => {
    await engine.create({ name: 'scopes', startAfter: start() });
    const variables = { name: 'scopes', cursor: start() };
    expect(await engine.fail(document, { scopes, variables })).toMatchObject({
      code: 'FORBIDDEN',
      message: expect.stringContaining(missing),
    });
    expect(await engine.consumer('scopes')).toMatchObject({ leases: [] });
  });

  it('that serve are four, of which one is for the notices of webhooks', async () => {
    await engine.create({ name: 'four', startAfter: start() }, { scopes: ALL });
    expect(positionsIn(await engine.poll({ name: 'four' }, { scopes: ALL }))).toEqual(['1', '2', '3']);
  });

  it('leave a narrowed key its own consumers, and let a wider one poll them too', async () => {
    const { nodes } = (await engine.run<{ notes: { nodes: { id: string }[] } }>('{ notes { nodes { id } } }')).notes;
    const narrowing = [{ subjects: [nodes[1]?.id ?? ''] }];
    await engine.create({ name: 'narrow', startAfter: start() }, { narrowing });
    await engine.create({ name: 'wide', startAfter: start() });
    expect(await engine.fail(POLL, { narrowing, variables: { name: 'wide' } })).toMatchObject({ code: 'FORBIDDEN' });
    expect(await engine.fail(CREATE, { narrowing, variables: { name: 'wide' } })).toMatchObject({ code: 'CONFLICT' });
    expect(positionsIn(await engine.poll({ name: 'narrow' }))).toEqual(['2']);
    await engine.expire('narrow');
    expect(await engine.poll({ name: 'narrow' }, { narrowing })).toMatchObject({
      events: [{ position: '2' }],
      attempts: 2,
    });
  });
});

describe('what is refused as BAD_INPUT', () => {
  it.each([
    [CREATE, { name: '' }, '1 to 100'],
    [CREATE, { name: 'a b' }, '1 to 100'],
    [CREATE, { name: 'é' }, '1 to 100'],
    [CREATE, { name: 'n\n' }, '1 to 100'],
    [CREATE, { name: 'x'.repeat(101) }, '1 to 100'],
    [CREATE, { name: 'ok', filter: { types: [] } }, 'filter.types is empty'],
    [CREATE, { name: 'ok', filter: { subjects: ['a\0'] } }, 'filter.subjects has a character'],
    [CREATE, { name: 'ok', filter: { changed: ['\ud800'] } }, 'filter.changed has a character'],
    [CREATE, { name: 'ok', filter: { related: Array(101).fill('x') } }, 'at most 100'],
    [POLL, { name: 'bad', first: 0 }, '"first" is 0; expected 1 to 100'],
    [POLL, { name: 'bad', first: 101 }, '"first" is 101'],
    [POLL, { name: 'bad', waitMs: -1 }, '"waitMs" is -1; expected 0 to 30000'],
    [POLL, { name: 'bad', waitMs: 30_001 }, '"waitMs" is 30001'],
    [POLL, { name: 'bad', leaseSeconds: 0 }, '"leaseSeconds" is 0; expected 1 to 600'],
    [POLL, { name: 'bad', leaseSeconds: 601 }, '"leaseSeconds" is 601'],
  ])('%s with %j', async (document, variables, says) => {
    expect(await engine.fail(document, { variables })).toMatchObject({
      code: 'BAD_INPUT',
      message: expect.stringContaining(says),
    });
  });

  it.each(['', 'nobody', 'a\0b', '\ud800', `x${'y'.repeat(10_000)}`])('is not the name %j of nobody', async (name) => {
    for (const document of [POLL, ACK, DELETE]) {
      expect(await engine.fail(document, { variables: { name, cursor: start() } })).toMatchObject({
        code: 'NOT_FOUND',
      });
    }
    expect(await engine.consumer(name)).toBeNull();
  });
});

describe('a list of consumers', () => {
  it('goes page by page, and shows how far each is', async () => {
    const account = await engine.addAccount();
    await engine.writeNotes(['x', 'y'], account);
    for (const name of ['one', 'two', 'three']) {
      await engine.create({ name, startAfter: engine.cursorOf(0, account) }, { accountId: account });
    }
    await engine.poll({ name: 'two', first: 1 }, { accountId: account });
    const page =
      'query ($after: String) { consumers(first: 2, after: $after) { nodes { name behind lagSeconds leases { to } } pageInfo { hasNextPage endCursor } } }';
    const { consumers } = await engine.run<{ consumers: { nodes: unknown[]; pageInfo: { endCursor: string } } }>(page, {
      accountId: account,
    });
    expect(consumers).toMatchObject({
      nodes: [
        { name: 'one', behind: 2, leases: [] },
        { name: 'two', behind: 2, leases: [{ to: '1' }] },
      ],
      pageInfo: { hasNextPage: true },
    });
    const variables = { after: consumers.pageInfo.endCursor };
    expect(await engine.run(page, { accountId: account, variables })).toMatchObject({
      consumers: { nodes: [{ name: 'three' }], pageInfo: { hasNextPage: false } },
    });
  });
});
