import { isDeepStrictEqual } from 'node:util';
import { type ShownEvent, WAYS, type Way } from './board.ts';
import type { Leg } from './journey.ts';

const LABELS: Readonly<Record<Way, string>> = {
  query: 'pulled by a query',
  WebSocket: 'watched over WebSocket',
  SSE: 'watched over SSE',
  webhook: 'called back by the webhook, its signature verified',
};

/** The events that are not the same on all ways, by name. */
export function findDifferences(legs: readonly Leg[]): readonly string[] {
  return legs
    .filter(({ arrivals }) => WAYS.some((way) => !isDeepStrictEqual(arrivals[way].event, arrivals.query.event)))
    .map(({ name }) => name);
}

/** The first event four times, whether all are equal, and how long each way took. */
export function writeTourReport(legs: readonly Leg[]): string {
  const [first] = legs;
  const shown = first === undefined ? [] : WAYS.flatMap((way) => showEvent(LABELS[way], first.arrivals[way].event));
  const different = findDifferences(legs);
  const verdict =
    different.length === 0
      ? `Equal: each of the ${legs.length} events is the same JSON on all four ways.`
      : `NOT EQUAL: ${different.join(' and ')} differ between the ways.`;
  return ['', `${first?.name ?? 'nothing'}, as it came:`, '', ...shown, verdict, '', ...showTimes(legs), ''].join('\n');
}

function showEvent(label: string, event: ShownEvent): readonly string[] {
  return [`  ${label}`, `  ${layOut(event, '  ')}`, ''];
}

const MAX_COLUMNS = 110;

/** JSON, with each object or list on one line if it fits there. */
function layOut(value: unknown, indent: string): string {
  const line = JSON.stringify(value);
  const isFlat = typeof value !== 'object' || value === null || (indent !== '  ' && fits(line, indent));
  if (isFlat) return line;
  const [open, close] = Array.isArray(value) ? '[]' : '{}';
  const deeper = `${indent}  `;
  const parts = Object.entries(value).map(
    ([name, part]) => `${deeper}${Array.isArray(value) ? '' : `${JSON.stringify(name)}: `}${layOut(part, deeper)}`,
  );
  return [open, parts.join(',\n'), `${indent}${close}`].join('\n');
}

function fits(line: string, indent: string): boolean {
  return indent.length + line.length <= MAX_COLUMNS;
}

function showTimes(legs: readonly Leg[]): readonly string[] {
  const row = (name: string, cells: readonly string[]) =>
    `  ${name.padEnd(14)}${cells.map((cell) => cell.padStart(11)).join('')}`;
  return [
    "Milliseconds from the change's answer to the event (below 0: it was there first):",
    row('', WAYS),
    ...legs.map(({ name, answeredAtMs, arrivals }) =>
      row(
        name,
        WAYS.map((way) => (arrivals[way].atMs - answeredAtMs).toFixed(0)),
      ),
    ),
  ];
}
