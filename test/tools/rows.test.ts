import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readAmount, readPrice, writeAmount } from '../../schema/tools/pence.ts';
import { openCsv, type Row, readRows } from '../../schema/tools/replay/csv.ts';
import { makePlan } from '../../schema/tools/replay/plan.ts';
import { describeProgress } from '../../schema/tools/replay/progress.ts';
import { readMinute } from '../../schema/tools/replay/row.ts';
import { writeCsv, writeRaw } from './tool.ts';

describe('a price', () => {
  test('is read and written exactly, whatever noughts follow', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 1n, max: 99_999_999_999n }), fc.nat(3), (pence, noughts) => {
        const text = writeAmount(pence);
        expect(readAmount(text)).toBe(pence);
        expect(readPrice(text + '0'.repeat(noughts))).toBe(pence);
        expect(readPrice(text.replace(/\.?0+$/, ''))).toBe(pence);
      }),
    );
  });

  test('is nothing else', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const pence = readPrice(text);
        expect(pence === undefined || /^\d{1,9}(\.\d+)?$/.test(text)).toBe(true);
      }),
    );
    for (const text of ['0', '0.00', '-1', '+1', '1.005', '.5', '1.', '1,50', '1e3', '£1', ' 1', '1234567890', 'NaN']) {
      expect([text, readPrice(text)]).toEqual([text, undefined]);
    }
  });
});

describe('a date', () => {
  test('is read as the calendar has it, in any year', () => {
    const years = { min: new Date('1900-01-01T00:00:00Z'), max: new Date('9999-12-31T23:59:00Z'), noInvalidDate: true };
    fc.assert(
      fc.property(fc.date(years), (date) => {
        const [month, day] = [date.getUTCMonth() + 1, date.getUTCDate()];
        const minute = String(date.getUTCMinutes()).padStart(2, '0');
        const text = `${month}/${day}/${date.getUTCFullYear()} ${date.getUTCHours()}:${minute}`;
        expect(readMinute(text)).toBe(Math.floor(date.getTime() / 60_000));
      }),
    );
  });

  test('is no day that there is not', () => {
    const days = { month: fc.nat(14), day: fc.nat(33), year: fc.integer({ min: 1900, max: 2100 }) };
    fc.assert(
      fc.property(fc.record(days), ({ month, day, year }) => {
        const exists = month >= 1 && month <= 12 && day >= 1 && day <= new Date(Date.UTC(year, month, 0)).getUTCDate();
        expect(readMinute(`${month}/${day}/${year} 0:00`) !== undefined).toBe(exists);
      }),
    );
    for (const text of ['2010-12-01 09:05', '12/1/2010', '12/1/2010 24:00', '12/1/2010 9:60', '12/1/10 9:05', '']) {
      expect([text, readMinute(text)]).toEqual([text, undefined]);
    }
  });
});

describe('a file', () => {
  test('may have its columns in any order, others besides, a mark of its encoding, and any line ends', async () => {
    const header = '\uFEFFCountry,Quantity,Extra, StockCode ,InvoiceNo,UnitPrice,CustomerID,InvoiceDate,Description';
    const rows = ['UK,2,x,A,1,1.5,,12/1/2010 9:05,One', '', 'UK,3,y,B,1,2.00,,12/1/2010 9:05,6" RULER'];
    for (const end of ['\n', '\r\n', '\r']) {
      const [first, second, ...more] = await readAll(await writeRaw([header, ...rows].join(end)));
      expect(first).toMatchObject({ sale: { sku: 'A', quantity: 2, pence: 150n, title: 'One', customer: undefined } });
      expect(second).toMatchObject({ sale: { sku: 'B', title: '6" RULER' } });
      expect(more).toEqual([]);
    }
  });

  test('of an older encoding keeps its letters', async () => {
    const text =
      'InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n1,A,£ CAFÉ,1,12/1/2010 9:05,1,,UK\n';
    const file = await writeRaw(Buffer.from(text, 'latin1'));
    expect(await readAll(file)).toMatchObject([{ sale: { title: '£ CAFÉ' } }]);
  });

  test('with a quote that is closed too late tells where the row ends', async () => {
    const rows = [
      '1,A,"OPEN,1,12/1/2010 9:05,1.00,,UK',
      '2,B,B,1,12/1/2010 9:05,1.00,,UK',
      '3,C,"C",1,12/1/2010 9:05,1.00,,UK',
    ];
    const [row] = await readAll(await writeCsv(rows));
    expect(row).toMatchObject({
      line: 2,
      refused: { reason: expect.stringContaining('ends in line 4; is a quote not closed?') },
    });
  });
});

describe('a plan', () => {
  test('takes of each product what is first in order of time, and of each invoice its earliest date', async () => {
    const file = await writeCsv([
      '2,A,LATER,1,12/1/2010 9:30,2.00,7,France',
      '1,A,FIRST,4,12/1/2010 9:00,1.00,,UK',
      '3,B,B,1,12/1/2010 9:10,1.00,7,Spain',
      '2,B,B AGAIN,1,12/1/2010 8:00,3.00,7,Malta',
    ]);
    const plan = await makePlan(readRows(await openCsv(file)), { sha256: 'ab'.repeat(32) });
    expect(plan).toMatchObject({ keyPrefix: 'replay:abababababab', totalPence: 1_000n, rows: { read: 4, refused: 0 } });
    expect(plan.products).toMatchObject([
      { sku: 'A', title: 'FIRST', pence: 100n, stock: 5 },
      { sku: 'B', title: 'B AGAIN', pence: 300n, stock: 2 },
    ]);
    expect(plan.customers).toMatchObject([{ id: '7', country: 'Malta' }]);
    expect(plan.invoices.map(({ number }) => number)).toEqual(['2', '1', '3']);
  });
});

test.each([
  [
    { finished: 118, total: 236, perSecond: 9.83 },
    'orders     [##########..........]  118/236  9.8/s  about 13 s left',
  ],
  [
    { finished: 1, total: 90_000, perSecond: 96.4 },
    'orders     [....................]  1/90000  96/s  about 16 min left',
  ],
  [{ finished: 5, total: 5, perSecond: undefined }, 'orders     [####################]  5/5'],
  [
    { finished: 0, total: 5, perSecond: 3, trouble: 'no server' },
    'orders     [....................]  0/5  waiting: no server',
  ],
])('progress %j', (facts, line) => {
  expect(describeProgress({ phase: 'orders', trouble: undefined, ...facts })).toBe(line);
});

async function readAll(path: string): Promise<readonly Row[]> {
  return Array.fromAsync(readRows(await openCsv(path)));
}
