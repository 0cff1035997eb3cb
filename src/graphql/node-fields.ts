import { EngineError } from '../errors.ts';
import { NODE, TYPE_NAME } from './base-types.ts';
import type { EngineBuilder } from './builder.ts';
import { MAX_PAGE } from './connection.ts';
import type { EngineContext } from './context.ts';

/** Adds `node` and `nodes` to Query. The id's prefix picks the loader, the loaded row gives the type. */
export function addNodeFields(builder: EngineBuilder): void {
  builder.queryField('node', (t) =>
    t.field({
      type: NODE,
      nullable: true,
      scope: null,
      description: 'An object by its id; null if there is none that the key may see.',
      args: { id: t.arg.id({ required: true }) },
      resolve: async (_root, { id }, context) => (await load(context, id)) as never,
    }),
  );
  builder.queryField('nodes', (t) =>
    t.field({
      type: [NODE],
      nullable: { list: false, items: true },
      scope: null,
      description: 'Objects by their ids, at most 100, in the order asked for.',
      args: { ids: t.arg.idList({ required: true }) },
      resolve: async (_root, { ids }, context) => {
        if (ids.length > MAX_PAGE)
          throw new EngineError('BAD_INPUT', `"ids" has ${ids.length} values; at most ${MAX_PAGE} are allowed`);
        return (await Promise.all(ids.map((id) => load(context, id)))) as never;
      },
    }),
  );
}

async function load({ loaders }: EngineContext, id: string): Promise<object | null> {
  const found = await loaders.node(id);
  // rows are plain objects; the type's name travels with a copy, so that a shared row is not marked
  return found && { ...(found.row as object), [TYPE_NAME]: found.typeName };
}
