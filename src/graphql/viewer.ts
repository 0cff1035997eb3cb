import type { EngineBuilder } from './builder.ts';

interface AccountRow {
  readonly id: string;
  readonly name: string;
  readonly created_at: Date;
}

/** The type `Account`. */
export function accountRef(builder: EngineBuilder) {
  const { sharedTypes } = builder.options.engine.registry;
  type Ref = ReturnType<typeof builder.objectRef<AccountRow>>;
  const known = sharedTypes.get('Account');
  // what this function put there
  if (known !== undefined) return known as Ref;
  const ref: Ref = builder.objectRef<AccountRow>('Account');
  sharedTypes.set('Account', ref);
  ref.implement({
    description: 'A tenant: its events have one order, and nothing of it exists for other accounts.',
    fields: (t) => ({
      id: t.exposeID('id'),
      name: t.exposeString('name'),
      createdAt: t.field({ type: 'DateTime', resolve: ({ created_at }) => created_at }),
    }),
  });
  return ref;
}

/** Adds `viewer` to Query. */
export function addViewer(builder: EngineBuilder): void {
  const viewer = builder.objectRef<object>('Viewer');
  viewer.implement({
    description: 'Who asks.',
    fields: (t) => ({
      id: t.id({
        description: 'The key; what `actor` is in the events of its changes.',
        resolve: (_parent, _args, { principal }) => principal.id,
      }),
      account: t.field({
        type: accountRef(builder),
        resolve: (_parent, _args, { engine, accountId }) =>
          engine.database.db
            .selectFrom('fanfare.account')
            .selectAll()
            .where('id', '=', accountId)
            .executeTakeFirstOrThrow(),
      }),
      scopes: t.stringList({
        description: 'What the key may do.',
        resolve: (_parent, _args, { principal }) => [...principal.scopes].sort(),
      }),
      seesAllEvents: t.boolean({
        description: 'Whether all events of the account are for this key: their positions then have no gaps.',
        resolve: (_parent, _args, { principal, engine }) => engine.registry.visibleTo(principal).length === 0,
      }),
      expiresAt: t.field({
        type: 'DateTime',
        nullable: true,
        resolve: (_parent, _args, { principal }) => principal.expiresAt ?? null,
      }),
    }),
  });
  builder.queryField('viewer', (t) =>
    t.field({ type: viewer, scope: null, description: 'Who asks.', resolve: () => ({}) }),
  );
}
