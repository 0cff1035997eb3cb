import { readFile, writeFile } from 'node:fs/promises';
import { codegen } from '@graphql-codegen/core';
import * as documents from '@graphql-codegen/typed-document-node';
import * as operations from '@graphql-codegen/typescript-operations';
import { buildSchema, parse } from 'graphql';

const SCHEMA = new URL('../../schema/schema.graphql', import.meta.url);
const OPERATIONS = new URL('orders.graphql', import.meta.url);
const GENERATED = new URL('documents.ts', import.meta.url);

const HEADER = `// biome-ignore-all format: generated from orders.graphql and the schema by "npm run example:generate"
// biome-ignore-all lint: generated
// biome-ignore-all assist: generated
`;

/** How the API's own scalars look in TypeScript. A decimal stays text: a number would round it. */
const SCALARS = { ID: 'string', DateTime: 'string', Decimal: 'string', JSON: 'unknown' };

/** The types and documents of the operations, as the text of a module. @throws where they do not fit the schema */
export async function generateDocuments(schemaText: string, operationsText: string): Promise<string> {
  const generated = await codegen({
    filename: 'documents.ts',
    schema: parse(schemaText),
    schemaAst: buildSchema(schemaText),
    documents: [{ location: 'orders.graphql', document: parse(operationsText) }],
    config: {
      scalars: SCALARS,
      strictScalars: true,
      immutableTypes: true,
      documentMode: 'string',
      useTypeImports: true,
    },
    plugins: [{ operations: {} }, { documents: {} }],
    pluginMap: { operations, documents },
  });
  // what a document may carry besides its text; the template's own `any` would reach those who import it
  return `${HEADER}${generated.replaceAll('Record<string, any>', 'Record<string, unknown>').trimEnd()}\n`;
}

/** Writes documents.ts, or with --check fails where it is not what would be written. */
async function main(isCheck: boolean): Promise<void> {
  const [schema, operationsText] = await Promise.all([readFile(SCHEMA, 'utf8'), readFile(OPERATIONS, 'utf8')]);
  const text = await generateDocuments(schema, operationsText);
  if (!isCheck) return writeFile(GENERATED, text);
  if ((await readFile(GENERATED, 'utf8').catch(() => '')) === text) return;
  console.error(
    'examples/typed-client/documents.ts is not up to date; run "npm run example:generate" and commit the result',
  );
  process.exitCode = 1;
}

if (import.meta.main) await main(process.argv.includes('--check'));
