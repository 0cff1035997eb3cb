import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { parse, validate } from 'graphql';
import { describe, expect, it } from 'vitest';
import { domain } from '#domain';
import { defaultDocument } from '#engine';

const HOUSE = new URL('../../schema/', import.meta.url);

describe('the printed schema', () => {
  it('is committed as it is, with the default documents', async () => {
    const check = promisify(execFile)(process.execPath, [
      new URL('../src/main/print-schema.ts', HOUSE).pathname,
      '--check',
    ]);
    await expect(check).resolves.toEqual({ stdout: '', stderr: '' });
  });

  it.each(domain.catalog.events.map((event) => [event.name, event] as const))(
    'has a document for %s',
    async (name, event) => {
      const schema = domain.toSchema();
      const document = defaultDocument(schema, event);
      expect(validate(schema, parse(document))).toEqual([]);
      expect(document).not.toMatch(/current[A-Z]/);
      for (const field of event.fields.keys()) expect(document).toContain(`    ${field}`);
      expect(await readFile(new URL(`documents/${name}.graphql`, HOUSE), 'utf8')).toBe(document);
    },
  );
});
