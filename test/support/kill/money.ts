/** Adds up amounts of two decimals exactly. @returns such as `93029.47` */
export function sumMoney(amounts: readonly string[]): string {
  return fromPence(amounts.reduce((sum, amount) => sum + toPence(amount), 0n));
}

/** @throws Error for anything but digits with at most two decimals */
export function toPence(amount: string): bigint {
  const [, pounds = '', pence = ''] = /^(\d+)(?:\.(\d{1,2}))?$/.exec(amount) ?? [];
  if (pounds === '') throw new Error(`expected an amount such as 12.50, found "${amount}"`);
  return BigInt(pounds + pence.padEnd(2, '0'));
}

export function fromPence(pence: bigint): string {
  const digits = String(pence).padStart(3, '0');
  return `${digits.slice(0, -2)}.${digits.slice(-2)}`;
}
