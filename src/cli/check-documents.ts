import type { CheckedWebhook } from '../main/check-documents.ts';

type Fault = CheckedWebhook['broken'][number];

/** What was found, as lines for people. */
export function describeChecked(checked: readonly CheckedWebhook[]): string {
  const lines = checked.flatMap((each) => [
    ...each.broken.map((fault) => `BROKEN      ${nameOf(each)}: ${show(fault)}`),
    ...each.deprecated.map((fault) => `DEPRECATED  ${nameOf(each)}: ${show(fault)}`),
  ]);
  return [...lines, `${count(checked.length, 'webhook')} checked: ${verdict(checked)}`].join('\n');
}

/** Whether a deploy would park deliveries that are not parked already. */
export function wouldBreak(checked: readonly CheckedWebhook[]): boolean {
  return checked.some(isNewlyBroken);
}

function isNewlyBroken({ broken, isParked, status }: CheckedWebhook): boolean {
  return broken.length > 0 && !isParked && status !== 'DISABLED';
}

function verdict(checked: readonly CheckedWebhook[]): string {
  const broken = checked.filter(isNewlyBroken).length;
  if (broken === 0) return 'this schema breaks none';
  return `this schema breaks ${count(broken, 'webhook')}; deployed, it would park their deliveries until they are repaired`;
}

function nameOf({ id, accountId, description, status, isParked }: CheckedWebhook): string {
  const state = isParked ? `${status}, parked already` : status;
  return `${id} of ${accountId}${description === '' ? '' : ` "${description}"`} (${state})`;
}

function show({ message, line, column }: Fault): string {
  return line === null ? message : `${message} (line ${line}, column ${column})`;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}
