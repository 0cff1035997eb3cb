import type { InputFieldMap } from '@pothos/core';
import type { EngineBuilder } from './builder.ts';
import { isEntityRef } from './entity.ts';
import type { ChangeOptions, SuccessField, SuccessFieldOptions } from './pothos-types.ts';
import { refusalClass, refusalRef } from './refusal.ts';
import { registryOf } from './registry.ts';
import { type ChangePlan, makeChange, type SuccessField as PlannedField, type Success } from './run-change.ts';

type Types = EngineBuilder['$inferSchemaTypes'];
type ErasedOptions = ChangeOptions<Types, InputFieldMap, Readonly<Record<string, SuccessField<Types>>>>;

/** What `t.change` hands to `builder.mutationField`, in the guise of a field. */
export interface ChangeDraft {
  readonly change: ErasedOptions;
}

/** The body of `t.change`. */
export function draftChange(options: ErasedOptions): ChangeDraft {
  return { change: options };
}

/** Declares a mutation: `<Name>Success`, the union `<Name>Result`, and the field that makes the change. */
export function declareChange(builder: EngineBuilder, name: string, draft: ChangeDraft): void {
  const options = draft.change;
  if (options === undefined) throw new Error(`mutation "${name}": declare it by t.change`);
  const registry = registryOf(builder);
  if (options.scope !== null) registry.scopes.add(options.scope);

  const typeName = name.charAt(0).toUpperCase() + name.slice(1);
  const fields = Object.entries(options.success).map(([key, field]) => planField(builder, key, field));
  const success = declareSuccess(builder, `${typeName}Success`, fields);
  const refusals = options.refusals ?? [];
  const result = builder.unionType(`${typeName}Result`, {
    description: `What became of \`${name}\`.`,
    types: [success, ...refusals.map((refusal) => refusalRef(builder, refusal))],
    resolveType: (value) => refusalClass(value)?.name ?? `${typeName}Success`,
  });
  // the types of arguments and of what was prepared are the declaration's own affair
  const { prepare, run, committed } = options as Pick<ChangePlan, 'prepare' | 'run' | 'committed'>;
  const change = makeChange({ name, scope: options.scope, fields, refusals, prepare, run, committed });
  addMutation(builder, name, {
    type: result,
    ...(options.description === undefined ? {} : { description: options.description }),
    ...(options.args === undefined ? {} : { args: options.args }),
    extensions: options.scope === null ? {} : { scope: options.scope },
    resolve: (_root, args, context, info) => change(args, context, info) as never,
  });
}

type MutationOptions = Parameters<Parameters<Parameters<EngineBuilder['mutationField']>[1]>[0]['field']>[0];

/** Pothos's own mutationField, which the builder's instance hides behind `declareChange`. */
function addMutation(builder: EngineBuilder, name: string, options: MutationOptions): void {
  const prototype = Object.getPrototypeOf(builder) as EngineBuilder;
  prototype.mutationField.call(builder, name, (t) => t.field(options));
}

function planField(
  builder: EngineBuilder,
  name: string,
  field: SuccessField<Types>,
): PlannedField & { readonly type: unknown; readonly description: string | undefined } {
  const options: SuccessFieldOptions<Types> = hasOptions(field) ? field : { type: field };
  const { type, nullable = false, secret = false, description } = options;
  const entity = isEntityRef(builder, type) ? type.name : undefined;
  return { name, type, entity, secret, nullable: nullable || secret, description };
}

/** Pothos's refs are objects too, but none has a property "type". */
function hasOptions(field: SuccessField<Types>): field is SuccessFieldOptions<Types> {
  return typeof field === 'object' && 'type' in field;
}

type SuccessPlan = ReturnType<typeof planField>;

function declareSuccess(builder: EngineBuilder, name: string, fields: readonly SuccessPlan[]) {
  const ref = builder.objectRef<Success>(name);
  ref.implement({
    description: 'The change was made.',
    fields: (t) => ({
      ...Object.fromEntries(
        fields.map(({ name: key, type, nullable, description }) => [
          key,
          t.field({
            type: type as never,
            nullable: nullable as never,
            ...(description === undefined ? {} : { description }),
            resolve: ({ values }) => values[key] as never,
          }),
        ]),
      ),
      cursor: t.exposeString('cursor', {
        description: 'Stands behind the last event of this change: pass it as `after` to read or watch on from here.',
      }),
    }),
  });
  return ref;
}
