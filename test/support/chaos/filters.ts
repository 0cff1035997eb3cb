/** What a reader wants: everything, a type that flows, or one so rare that only checkpoints take its cursor along. */
export type Wanted = 'all' | 'stock' | 'rare';

/** For `EventFilter.types`. */
export const TYPES: Readonly<Record<Wanted, readonly string[]>> = {
  all: [],
  stock: ['STOCK_CHANGED'],
  rare: ['CUSTOMER_CREATED'],
};

/** The filter as a variable: none where everything is wanted. */
export function filterFor(wanted: Wanted): { readonly types: readonly string[] } | null {
  return TYPES[wanted].length === 0 ? null : { types: TYPES[wanted] };
}

/** Whether an event of that name is wanted: `stock.changed` by `stock`. */
export function isWanted(wanted: Wanted, name: string): boolean {
  return wanted === 'all' || TYPES[wanted].includes(name.toUpperCase().replace('.', '_'));
}
