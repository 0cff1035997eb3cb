import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, inject, onTestFinished } from 'vitest';
import { type GraphqlAnswer, post } from '../support/app.ts';
import { childEnv } from '../support/child-env.ts';
import { eventually } from '../support/eventually.ts';

/** A tool in a process of its own, as `npm run` starts it. */
export interface ToolRun {
  /** Its exit code; null after a signal. */
  readonly code: Promise<number | null>;
  /** Standard output so far. */
  out(): string;
  /** Standard error so far. */
  said(): string;
  untilOut(words: string): Promise<void>;
  kill(signal: NodeJS.Signals): void;
}

/** Starts `npm run replay` or `npm run tour`; it is gone when the test is over. */
export function runTool(
  name: 'replay' | 'tour',
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): ToolRun {
  const file = fileURLToPath(new URL(`../../schema/tools/${name}.ts`, import.meta.url));
  const child = spawn(process.execPath, [file, ...args], {
    cwd: inject('run').scratchDir,
    env: { ...childEnv(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, said] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (out += chunk));
  child.stderr.on('data', (chunk: Buffer) => (said += chunk));
  const code = once(child, 'close').then(([ended]) => ended as number | null); // what 'close' gives
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await code;
  });
  return {
    code,
    out: () => out,
    said: () => said,
    untilOut: async (words) =>
      void (await eventually(() => out.includes(words), { describe: `"${words}", found ${out} ${said}` })),
    kill: (signal) => void child.kill(signal),
  };
}

/** Runs a tool to its end. */
export async function finishTool(...args: Parameters<typeof runTool>) {
  const run = runTool(...args);
  const code = await run.code;
  return { code, out: run.out(), said: run.said() };
}

/** A server with a key of one account. */
export interface Client {
  readonly url: string;
  readonly key: string;
}

/** What the replay needs, and to read the log. */
export const SCOPES: readonly string[] = [
  ...['products:read', 'products:write', 'customers:read', 'customers:write', 'orders:read', 'orders:write'],
  ...['orders:price', 'events:read'],
];

/** A key of a new account, so that each test has a log of its own. @param admin an operator's */
export async function newClient(admin: Client, scopes: readonly string[] = SCOPES): Promise<Client> {
  const account = await ask(
    admin,
    'mutation { accountCreate(name: "shop") { ... on AccountCreateSuccess { account { id } } } }',
  );
  const { data } = await post(admin, {
    query: `mutation ($scopes: [String!]!, $id: ID!) {
      apiKeyCreate(scopes: $scopes, accountId: $id) { ... on ApiKeyCreateSuccess { secret } }
    }`,
    variables: { scopes, id: account.accountCreate.account.id },
  });
  return { url: admin.url, key: data.apiKeyCreate.secret };
}

/** The data of an answer without errors. */
export async function ask(client: Client, query: string): Promise<GraphqlAnswer['data']> {
  const { data, errors } = await post(client, { query });
  expect(errors).toBeUndefined();
  return data;
}

const HEADER = 'InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country';

/** Writes a file of invoices, its rows below the names of the columns; gives its path. */
export async function writeCsv(rows: readonly string[], end = '\n'): Promise<string> {
  return writeRaw([HEADER, ...rows].join('\n') + end);
}

/** Writes a file as it is. */
export async function writeRaw(content: string | Uint8Array): Promise<string> {
  const file = join(await newFolder(), 'invoices.csv');
  await writeFile(file, content);
  return file;
}

/** A path for a ledger that is not there yet. */
export async function newLedger(): Promise<string> {
  return join(await newFolder(), 'ledger.jsonl');
}

export interface LedgerLine {
  readonly key: string;
  readonly field: string;
  readonly id: string;
  readonly cursor: string;
}

/** The whole lines of a ledger; none if there is no file yet. */
export async function readLedger(path: string): Promise<LedgerLine[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  const lines = text.split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as LedgerLine);
}

/** Many small invoices, in order of time: `count` of three lines each, over ten products, for five customers and guests. */
export function manyInvoices(count: number): string[] {
  return Array.from({ length: count * 3 }, (_, at) => {
    const invoice = Math.floor(at / 3);
    const customer = invoice % 6 === 0 ? '' : `1000${invoice % 6}`;
    const minute = `${1 + (invoice % 12)}:${String(invoice % 60).padStart(2, '0')}`;
    const date = `12/${1 + Math.floor(invoice / 12)}/2010 ${minute}`;
    return `${5000 + invoice},S${at % 10},THING ${at % 10},${1 + (at % 4)},${date},${1 + (at % 3)}.25,${customer},France`;
  });
}

/** What 1 row of `manyInvoices` after another adds up to, in pence. */
export function totalPence(rows: readonly string[]): number {
  return rows.reduce((sum, row) => {
    const [, , , quantity, , price] = row.split(',');
    return sum + Number(quantity) * Math.round(Number(price) * 100);
  }, 0);
}

async function newFolder(): Promise<string> {
  return mkdtemp(join(inject('run').scratchDir, 'tool-'));
}
