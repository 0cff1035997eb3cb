import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { buildSchema, parse, validate } from 'graphql';
import { describe, expect, test } from 'vitest';
import { readConfig } from '../../src/config.ts';
import { blocksFor, PAGES, ROOT, readBlocks, strayBlocks } from './blocks.ts';

const pages = blocksFor('documents');
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

describe.each(PAGES)('%s', (page) => {
  test('has no block that nothing proves', () => {
    const blocks = readBlocks(page);
    expect(strayBlocks(page, blocks)).toEqual([]);
    const fresh = { page, language: 'sh', text: 'npm run something-else\n' };
    expect(strayBlocks(page, [...blocks, fresh])).toHaveLength(1);
    expect(strayBlocks(page, blocks.slice(1))).toHaveLength(Math.min(blocks.length, 1));
  });

  test('links to files that are there', () => {
    const links = [...read(page).matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, path = '']) => path);
    expect(links.filter((path) => !existsSync(join(ROOT, dirname(page), path)))).toEqual([]);
  });
});

test('each page of docs is looked at', () => {
  const linked = [...read('README.md').matchAll(/\]\((docs\/[^)#]+)/g)].map(([, path]) => path);
  expect(new Set(linked)).toEqual(new Set(PAGES.slice(1)));
});

test.each([
  ['// Receives callbacks', 'examples/receiver-node.mjs'],
  ['# Receives callbacks', 'examples/receiver-python.py'],
])('the README shows the receiver "%s" as it is in %s, in at most 31 lines', (begins, file) => {
  const block = pages.take('README.md', begins);
  expect(block).toBe(read(file));
  expect(block.trimEnd().split('\n').length).toBeLessThanOrEqual(31);
});

test.each([
  ['docs/cursors.md', 'query { head'],
  ['docs/webhooks.md', 'mutation ($input: WebhookCreateInput!)'],
  ['docs/webhooks.md', 'mutation ($url: String!)'],
])('the operations of %s fit the schema', (page, begins) => {
  const schema = buildSchema(read('schema/schema.graphql'));
  const operations = pages.take(page, begins).split(/^(?=query|subscription|mutation)/m);
  for (const operation of operations) expect(validate(schema, parse(operation))).toEqual([]);
});

test('the table of settings names each that this version serves', () => {
  const cells = [...read('README.md').matchAll(/^\| (`[A-Z_]+`(?:, `[A-Z_]+`)*) \|/gm)].map(([, names = '']) => names);
  const named = cells.flatMap((cell) => [...cell.matchAll(/`([A-Z_]+)`/g)].map(([, name]) => name));
  const settings: string[] = [];
  const nearest = (_word: string, candidates: Iterable<string>) => void settings.push(...candidates);
  readConfig({ ANOTHER_PROGRAMS: '1' }, { describeKeyFault: () => undefined, nearest });
  expect(named.toSorted()).toEqual(settings.filter(isServed).toSorted());
});

test('each code in the table of errors is in a test, which is there', () => {
  const errors = read('docs/errors.md');
  const rows = [...errors.matchAll(/^\| (.+) \| (test\/\S+) \| (.+) \|$/gm)];
  for (const [, , file = '', title = ''] of rows) expect(read(file), title).toContain(`'${title}'`);
  const seen = rows.flatMap(([, codes = '']) => [...codes.matchAll(/`([^`]+)`/g)].map(([, code]) => code));
  const meant = errors.slice(0, errors.indexOf('## Seen in tests'));
  const rowsMeant = [...meant.matchAll(/^\| (`[A-Z_]+`(?:, `[A-Z_]+`)*|\d{4}(?:, \d{4})*) \|/gm)];
  const codes = rowsMeant.flatMap(([, cell = '']) => cell.replaceAll('`', '').split(', '));
  expect(seen.toSorted()).toEqual(codes.toSorted());
});

test('has looked at all its blocks', () => {
  expect(pages.untaken()).toEqual([]);
});

function isServed(name: string): boolean {
  try {
    readConfig({ [name]: 'x' }, { describeKeyFault: () => undefined, nearest: () => undefined });
    return true;
  } catch (error) {
    return !String(error).includes('not supported by this version');
  }
}
