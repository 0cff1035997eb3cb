import type {
  FieldKind,
  FieldMap,
  InputFieldMap,
  InputShapeFromFields,
  SchemaTypes,
  ShapeFromTypeParam,
  TypeParam,
} from '@pothos/core';
import type { Selectable } from 'kysely';
import type { z } from 'zod';
import type { Refusal } from '../errors.ts';
import type { EventDefinition } from '../outbox/event.ts';
import type { EventRecord } from '../outbox/read.ts';
import type { Tx } from '../outbox/transact.ts';
import type { EngineContext } from './context.ts';
import type { PageQuery } from './page.ts';
import type { EnginePlugin } from './plugin.ts';
import type { Registry } from './registry.ts';

/** The domain's tables behind a builder's types. */
export type TablesOf<Types extends { Context: object }> = Types['Context'] extends { readonly tables?: infer Tables }
  ? unknown extends Tables
    ? unknown
    : Exclude<Tables, undefined>
  : never;

/** A class of refusals: its name is its type in the graph. */
export type RefusalClass<R extends Refusal = Refusal> = (abstract new (
  ...args: never[]
) => R) & { readonly code: string; readonly name: string };

export interface SuccessFieldOptions<Types extends SchemaTypes> {
  readonly type: TypeParam<Types>;
  /** @default false */
  readonly nullable?: boolean;
  readonly description?: string;
  /** Shown once: not stored with the idempotency key, so a repeat gives null. The field is nullable. @default false */
  readonly secret?: boolean;
}

/** A field of a change's success: a type, or a type with options. */
export type SuccessField<Types extends SchemaTypes> = TypeParam<Types> | SuccessFieldOptions<Types>;

/** What `run` gives back for the fields of a success. */
export type SuccessShape<Types extends SchemaTypes, Success> = {
  [Name in keyof Success]: Success[Name] extends {
    readonly type: infer Type extends TypeParam<Types>;
    readonly nullable: true;
  }
    ? ShapeFromTypeParam<Types, Type, true>
    : Success[Name] extends { readonly type: infer Type extends TypeParam<Types> }
      ? ShapeFromTypeParam<Types, Type, false>
      : Success[Name] extends TypeParam<Types>
        ? ShapeFromTypeParam<Types, Success[Name], false>
        : never;
};

export interface ChangeOptions<Types extends SchemaTypes, Args extends InputFieldMap, Success, Prepared = undefined> {
  /** Needed to call it; null lets every principal. */
  readonly scope: string | null;
  readonly description?: string;
  readonly args?: Args;
  /** Fields of the success type beside `cursor`. Entities are answered by id on a repeat, scalars as they were. */
  readonly success: Success;
  /** The refusals that `run` may raise: the other members of the result's union. */
  readonly refusals?: readonly RefusalClass[];
  /**
   * Runs once before the transaction, for what may not happen inside one, such as asking a name server; written before
   * `run`, which gets its answer. It may raise refusals. Left out where an idempotency key's outcome is known.
   */
  readonly prepare?: (args: InputShapeFromFields<Args>, context: EngineContext<TablesOf<Types>>) => Promise<Prepared>;
  /** Makes the change. It may run up to 4 times, each in a fresh transaction, and does nothing outside of it. */
  readonly run: (
    tx: Tx<TablesOf<Types>>,
    args: InputShapeFromFields<Args>,
    context: EngineContext<TablesOf<Types>>,
    prepared: Prepared,
  ) => Promise<SuccessShape<Types, Success>>;
  /** Called behind the commit, and at each repeat, for a hint that may be lost. Must not throw, and returns at once. */
  readonly committed?: (context: EngineContext<TablesOf<Types>>) => void;
}

export interface EntityOptions<Types extends SchemaTypes, Row> {
  /** Its rows: a table with `id` and `account_id`. */
  readonly table: keyof TablesOf<Types> & string;
  /** Needed to read it, on any way to it. */
  readonly scope: string;
  readonly description?: string;
  /** Beside `id` and `version`. */
  readonly fields: (t: PothosSchemaTypes.ObjectFieldBuilder<Types, Row>) => FieldMap;
}

export interface EntityEdgeOptions<ParentShape> {
  /** From an event it begins with "Current state:". */
  readonly description: string;
  /** The entity's id; null leads nowhere. @default the event's subject */
  readonly id?: (parent: ParentShape) => string | null;
}

export interface PageOptions<Types extends SchemaTypes, ParentShape, Args extends InputFieldMap, Row> {
  readonly description: string;
  readonly scope: string | null;
  readonly args?: Args;
  /** Selects the rows, all columns, bound to the account; the engine adds order, limit and place. */
  readonly query: (
    context: EngineContext<TablesOf<Types>>,
    args: InputShapeFromFields<Args>,
    parent: ParentShape,
  ) => PageQuery<Row>;
}

declare global {
  export namespace PothosSchemaTypes {
    interface Plugins<Types extends SchemaTypes> {
      engine: EnginePlugin<Types>;
    }

    interface SchemaBuilderOptions<Types extends SchemaTypes> {
      engine: { readonly registry: Registry };
    }

    interface SchemaBuilder<Types extends SchemaTypes> {
      /** Declares the domain's events: their types, `EventType`, and a subscription field for each. Once. */
      // biome-ignore lint/suspicious/noExplicitAny: an event's payload is both read and written, so no narrower bound takes all events
      events(events: readonly EventDefinition<any, any>[]): this;
      /** The type of a declared event, to add an edge to. */
      // biome-ignore lint/suspicious/noExplicitAny: as above
      event(event: EventDefinition<any, any>): ObjectRef<Types, EventRecord>;
      /** Declares an entity: current state, with `id` and `version`, reached by `node`. */
      entity<const Table extends keyof TablesOf<Types> & string>(
        name: string,
        options: EntityOptions<Types, Selectable<TablesOf<Types>[Table]>> & { readonly table: Table },
      ): ObjectRef<Types, Selectable<TablesOf<Types>[Table]>>;
      /** A snapshot's type, for an entity's field. */
      snapshot<Fields extends z.ZodRawShape>(
        schema: z.ZodObject<Fields, z.core.$strict>,
      ): ObjectRef<Types, z.infer<z.ZodObject<Fields>>>;
      /** The type of a payload's enum, for an entity's field or an argument. */
      payloadEnum<Schema extends z.ZodEnum>(schema: Schema): EnumRef<Types, z.infer<Schema>>;
      /** Adds a description and fields to a refusal's type. */
      refusal<R extends Refusal>(
        refusal: RefusalClass<R>,
        options: { readonly description?: string; readonly fields?: (t: ObjectFieldBuilder<Types, R>) => FieldMap },
      ): ObjectRef<Types, R>;
    }

    interface RootFieldBuilder<Types extends SchemaTypes, ParentShape, Kind extends FieldKind = FieldKind> {
      /** An edge to an entity: nullable, batched, null where it is not there (any more). */
      entity<Row>(
        entity: ObjectRef<Types, Row>,
        options: EntityEdgeOptions<ParentShape>,
      ): FieldRef<Types, Row | null, Kind>;
      /** A Relay connection of entities, oldest first, by keyset on the id; at most 100 on a page. */
      page<Row extends { readonly id: string }, Args extends InputFieldMap>(
        entity: ObjectRef<Types, Row>,
        options: PageOptions<Types, ParentShape, Args, Row>,
      ): FieldRef<Types, unknown, Kind>;
    }

    interface MutationFieldBuilder<Types extends SchemaTypes, ParentShape> {
      /** The only way to declare a mutation. */
      change<
        const Success extends Readonly<Record<string, SuccessField<Types>>>,
        Args extends InputFieldMap = Record<never, never>,
        Prepared = undefined,
      >(options: ChangeOptions<Types, Args, Success, Prepared>): FieldRef<Types, unknown, 'Mutation'>;
    }

    interface QueryFieldOptions<
      Types extends SchemaTypes,
      Type extends TypeParam<Types>,
      Nullable extends import('@pothos/core').FieldNullability<Type>,
      Args extends InputFieldMap,
      ResolveReturnShape,
    > {
      /** Needed to read it; null lets every principal. */
      scope: string | null;
    }
  }
}
