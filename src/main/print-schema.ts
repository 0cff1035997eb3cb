import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { printSchema } from 'graphql';
import { domain } from '#domain';
import { defaultDocument } from '../graphql/default-document.ts';
import { completeSchema } from './schema.ts';

/** Where the committed files lie. */
const HOUSE = new URL('../../schema/', import.meta.url);

/** What the committed files must hold: the printed schema, and each event's default payload document. */
function printFiles(): ReadonlyMap<string, string> {
  const schema = completeSchema(domain);
  const documents = domain.catalog.events.map(
    (event) => [`documents/${event.name}.graphql`, defaultDocument(schema, event)] as const,
  );
  return new Map([['schema.graphql', `${printSchema(schema)}\n`], ...documents]);
}

/** The files that differ from what is printed, with those that no event has any more. */
async function findStale(files: ReadonlyMap<string, string>): Promise<string[]> {
  const found = await readdir(new URL('documents/', HOUSE)).catch(() => []);
  const names = new Set([...files.keys(), ...found.map((name) => `documents/${name}`)]);
  const stale = await Promise.all(
    [...names].map(async (name) => {
      const text = await readFile(new URL(name, HOUSE), 'utf8').catch(() => undefined);
      return text === files.get(name) ? [] : [name];
    }),
  );
  return stale.flat().sort();
}

// A script of its own, run by `npm run schema:print` and, with --check, by `npm run check`.
const files = printFiles();
const stale = await findStale(files);
if (process.argv.includes('--check')) {
  if (stale.length > 0) {
    process.stderr.write(
      `not up to date in schema/: ${stale.join(', ')}; run "npm run schema:print" and commit the result\n`,
    );
    process.exitCode = 1;
  }
} else {
  await mkdir(new URL('documents/', HOUSE), { recursive: true });
  for (const name of stale) {
    const text = files.get(name);
    const file = new URL(name, HOUSE);
    await (text === undefined ? rm(file) : writeFile(file, text));
    process.stdout.write(`${text === undefined ? 'removed' : 'wrote'} schema/${name}\n`);
  }
}
