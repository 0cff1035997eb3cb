import { describe, expect, test } from 'vitest';
import { ToolError, UsageError } from '../../schema/tools/command-line.ts';
import { openCsv, readRows } from '../../schema/tools/replay/csv.ts';
import { readReplayOptions } from '../../schema/tools/replay/options.ts';
import { readTourOptions } from '../../schema/tools/tour/options.ts';
import { finishTool, writeCsv, writeRaw } from './tool.ts';

const read = { replay: readReplayOptions, tour: readTourOptions };

describe('a command line', () => {
  test.each([
    ['replay', [], 'expected a file'],
    ['replay', ['a.csv', 'b.csv'], 'expected one file, found "b.csv" too'],
    ['replay', ['a.csv', '--concurency', '3'], 'there is no option --concurency; did you mean "--concurrency"?'],
    ['replay', ['a.csv', '-x'], 'there is no option -x'],
    ['replay', ['a.csv', '--concurrency', '65'], 'expected a whole number from 1 to 64, found "65"'],
    ['replay', ['a.csv', '--concurrency=0'], 'expected a whole number from 1 to 64, found "0"'],
    ['replay', ['a.csv', '--invoices', 'all'], '--invoices: expected a whole number'],
    ['replay', ['a.csv', '--ledger'], '--ledger needs a value'],
    ['replay', ['a.csv', '--key', 'a', '--key', 'b'], '--key is given twice'],
    ['replay', ['a.csv', '--url', 'localhost:4000'], '--url: expected http://host:port'],
    ['tour', ['--callback-hots', 'x'], 'there is no option --callback-hots; did you mean "--callback-host"?'],
    ['tour', ['--callback-host', 'a/b'], '--callback-host: expected a name or an address'],
    ['tour', ['now'], 'there is nothing to do with "now"'],
  ] as const)('of %s is refused: %j', async (tool, args, message) => {
    await expect(read[tool](args, { ADMIN_API_KEY: 'k' })).rejects.toSatisfy(
      (error) => error instanceof UsageError && error.message.includes(message),
    );
  });

  test('without options takes what a server takes from the same settings', async () => {
    const env = { PORT: '4999', ADMIN_API_KEY: ' ff_key ' };
    expect(await readTourOptions([], env)).toEqual({ url: 'http://127.0.0.1:4999/graphql', key: 'ff_key' });
    expect(await readReplayOptions(['a.csv'], { ADMIN_API_KEY: 'k' })).toEqual({
      path: 'a.csv',
      url: 'http://127.0.0.1:4000/graphql',
      key: 'k',
      concurrency: 8,
    });
    const given = ['--url', 'https://shop.example/api/graphql', '--key=k', '--callback-host', '::1'];
    expect(await readTourOptions(given, env)).toEqual({
      url: 'https://shop.example/api/graphql',
      key: 'k',
      callbackHost: '[::1]',
    });
    await expect(readTourOptions([], { DATA_DIR: '/nowhere' })).rejects.toThrow('run where /nowhere/admin-key is');
  });

  test('that is not understood ends a tool with 2, help with 0', async () => {
    const refused = await finishTool('replay', ['a.csv', '--ledgr', 'x']);
    expect(refused).toEqual({
      code: 2,
      out: '',
      said: 'replay: there is no option --ledgr; did you mean "--ledger"? (see: npm run replay -- --help)\n',
    });
    expect(await finishTool('tour', ['-h'])).toEqual({ code: 0, said: '', out: expect.stringContaining('--url URL') });
  });
});

describe('a file', () => {
  test.each<[string, () => Promise<string>, string]>([
    ['that is not there', async () => '/nowhere.csv', "/nowhere.csv can't be read"],
    ['that is a folder', async () => '/', '/ is no file'],
    ['that is empty', () => writeRaw(''), 'is empty'],
    ['of other columns', () => writeRaw('a,b\n1,2\n'), 'found "a,b", without InvoiceNo'],
    [
      'that lacks two columns',
      () => writeRaw('InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice\n'),
      'without CustomerID, Country',
    ],
    ['of bytes', () => writeRaw(Uint8Array.from({ length: 5_000 }, (_, at) => (at * 7) % 256)), 'expected a CSV file'],
    ['whose quote is never closed', () => writeCsv(['1,"A,B']), "can't be read as CSV"],
  ])('%s is no file of invoices', async (_name, write, message) => {
    const path = await write();
    const readAll = async () => Array.fromAsync(readRows(await openCsv(path)));
    await expect(readAll()).rejects.toSatisfy(
      (error) => error instanceof ToolError && error.message.includes(message) && error.message.includes(path),
    );
  });

  test('without rows ends the replay with 1 and one message, before anything is sent', async () => {
    // nothing listens there: a call would be tried for two minutes
    const { code, out, said } = await finishTool('replay', [
      await writeCsv([]),
      '--url',
      'http://127.0.0.1:9',
      '--key',
      'k',
    ]);
    expect([code, out]).toEqual([1, '']);
    expect(said).toMatch(/^replay: .*invoices\.csv has no rows below the names of its columns\n$/);
  });
});
