import type { Machine } from './machine.ts';
import { median } from './statistics.ts';

/** One figure, measured in rounds beside its baseline. */
export interface Row {
  readonly name: string;
  /** Of both sides: `ms`, `deliveries/s`. */
  readonly unit: string;
  /** One value for each round. */
  readonly subject: readonly number[];
  readonly baseline: readonly number[];
  /** What it spends its time on, as this run has measured it. */
  readonly limitedBy: string;
}

/** A table of all rows, in Markdown, its columns aligned. */
export function printTable(rows: readonly Row[]): string {
  const cells = [
    ['figure', 'unit', 'Fanfare', 'baseline', 'ratio', 'spread (min–max, Fanfare; baseline)', 'limited by'],
    ...rows.map((row) => [
      row.name,
      row.unit,
      shown(median(row.subject)),
      shown(median(row.baseline)),
      ratioOf(row).toFixed(2),
      `${spreadOf(row.subject)}; ${spreadOf(row.baseline)}`,
      row.limitedBy,
    ]),
  ];
  const widths = (cells[0] ?? []).map((_, column) => Math.max(...cells.map((line) => line[column]?.length ?? 0)));
  const lines = cells.map((line) => `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`);
  const rule = `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`;
  return [lines[0], rule, ...lines.slice(1)].join('\n');
}

/** The same as one JSON document, with every round's value. */
export function printJson(rows: readonly Row[], machine: Machine): string {
  const figures = rows.map((row) => ({
    name: row.name,
    unit: row.unit,
    subject: summary(row.subject),
    baseline: summary(row.baseline),
    ratio: ratioOf(row),
    limitedBy: row.limitedBy,
  }));
  return JSON.stringify({ machine, figures }, null, 2);
}

function summary(rounds: readonly number[]) {
  return { median: median(rounds), min: Math.min(...rounds), max: Math.max(...rounds), rounds };
}

function ratioOf({ subject, baseline }: Row): number {
  return median(subject) / median(baseline);
}

function spreadOf(values: readonly number[]): string {
  return `${shown(Math.min(...values))}–${shown(Math.max(...values))}`;
}

/** Three digits say more than the noise allows. */
function shown(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString('en');
  return value.toPrecision(3);
}
