import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { CsvError, parse } from 'csv-parse';
import { ToolError } from '../command-line.ts';
import { COLUMNS, type Column, RowRefused, readSale, type Sale } from './row.ts';

/** A file before its rows are read. */
export interface CsvFile {
  readonly path: string;
  /** Of its bytes, in hex. */
  readonly sha256: string;
  /** What is not UTF-8 is read as Windows-1252, which programs of its time wrote. */
  readonly encoding: 'utf-8' | 'windows-1252';
}

/** A row as it was read, with the line of the file in which it begins. */
export type Row =
  | { readonly line: number; readonly sale: Sale }
  | { readonly line: number; readonly refused: { readonly column: string; readonly reason: string } };

/** A quote that is opened and never closed must not swallow the rest of the file. */
const MAX_RECORD_CHARACTERS = 64 * 1024;

/** @throws ToolError if the file can't be read */
export async function openCsv(path: string): Promise<CsvFile> {
  const hash = createHash('sha256');
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let encoding: CsvFile['encoding'] = 'utf-8';
  for await (const chunk of readBytes(path)) {
    hash.update(chunk);
    if (encoding === 'utf-8' && !isDecoded(() => decoder.decode(chunk, { stream: true }))) encoding = 'windows-1252';
  }
  if (encoding === 'utf-8' && !isDecoded(() => decoder.decode())) encoding = 'windows-1252';
  return { path, sha256: hash.digest('hex'), encoding };
}

/**
 * Reads the rows one by one: a file of any size needs the memory of one row.
 * @throws ToolError if the file can't be read, is no CSV, or lacks columns
 */
export async function* readRows(file: CsvFile): AsyncGenerator<Row> {
  const parser = parse({
    info: true,
    record_delimiter: ['\r\n', '\n', '\r'],
    relax_quotes: true, // 6" RULER
    relax_column_count: true, // told as a refusal of the row
    skip_empty_lines: true,
    max_record_size: MAX_RECORD_CHARACTERS,
  });
  const text = Readable.from(decode(file));
  text.on('error', (error) => parser.destroy(error));
  let places: Places | undefined;
  try {
    for await (const item of text.pipe(parser)) {
      // what csv-parse gives with `info`
      const { record, info } = item as { record: string[]; info: { lines: number } };
      if (places === undefined) places = readHeader(record, file.path);
      else yield toRow(record, { places, endLine: info.lines });
    }
  } catch (error) {
    throw error instanceof CsvError ? new ToolError(`${file.path} can't be read as CSV: ${explain(error)}`) : error;
  } finally {
    text.destroy();
  }
  if (places === undefined)
    throw new ToolError(`${file.path} is empty; expected a CSV file with ${COLUMNS.join(', ')}`);
}

const LINE_BREAK = /\r\n|\n|\r/;

type Places = ReadonlyMap<Column, number>;

function readHeader(record: readonly string[], path: string): Places {
  const found = record.map((name) => name.trim());
  const missing = COLUMNS.filter((column) => !found.includes(column));
  if (missing.length === 0) return new Map(COLUMNS.map((column) => [column, found.indexOf(column)]));
  throw new ToolError(
    `${path}: expected a CSV file whose first line names ${COLUMNS.join(', ')}; ` +
      `found ${JSON.stringify(found.join(',').slice(0, 80))}, without ${missing.join(', ')}`,
  );
}

interface RowPlace {
  readonly places: Places;
  /** csv-parse tells the line in which a record ends. */
  readonly endLine: number;
}

function toRow(record: readonly string[], { places, endLine }: RowPlace): Row {
  const line = endLine - countLineBreaks(record);
  if (line !== endLine) {
    const reason = `expected a row on one line, found one that ends in line ${endLine}; is a quote not closed?`;
    return { line, refused: { column: 'row', reason } };
  }
  if (record.length < places.size) {
    const reason = `expected at least ${places.size} columns, found ${record.length}`;
    return { line, refused: { column: 'row', reason } };
  }
  try {
    return { line, sale: readSale((column) => record[places.get(column) ?? 0] ?? '') };
  } catch (error) {
    if (!(error instanceof RowRefused)) throw error;
    return { line, refused: { column: error.column, reason: error.message } };
  }
}

function countLineBreaks(record: readonly string[]): number {
  return record.reduce((sum, field) => sum + (field.split(LINE_BREAK).length - 1), 0);
}

function explain(error: CsvError): string {
  const line = 'lines' in error && typeof error.lines === 'number' ? ` near line ${error.lines}` : '';
  return `${error.message.slice(0, 120)}${error.message.includes(' line ') ? '' : line}`;
}

async function* decode({ path, encoding }: CsvFile): AsyncGenerator<string> {
  const decoder = new TextDecoder(encoding);
  for await (const chunk of readBytes(path)) yield decoder.decode(chunk, { stream: true });
  yield decoder.decode();
}

async function* readBytes(path: string): AsyncGenerator<Buffer> {
  try {
    if (!(await stat(path)).isFile()) throw new ToolError(`${path} is no file`);
    yield* createReadStream(path);
  } catch (error) {
    if (!(error instanceof Error && 'syscall' in error)) throw error;
    throw new ToolError(`${path} can't be read: ${error.message}`);
  }
}

function isDecoded(decode: () => string): boolean {
  try {
    decode();
    return true;
  } catch {
    return false;
  }
}
