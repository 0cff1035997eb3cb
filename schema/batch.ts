import DataLoader from 'dataloader';
import type { EngineContext } from '#engine';
import type { Tables } from './tables.ts';

type Context = EngineContext<Tables>;

/** Makes of a function that loads for many keys one that loads for one: calls in one tick share a query. */
export function batched<Value>(load: (context: Context, keys: readonly string[]) => Promise<readonly Value[]>) {
  const loaders = new WeakMap<Context, DataLoader<string, Value>>();
  return (context: Context, key: string): Promise<Value> => {
    const loader = loaders.get(context) ?? new DataLoader<string, Value>((keys) => load(context, keys));
    loaders.set(context, loader);
    return loader.load(key);
  };
}
