import {
  AliasNode,
  AndNode,
  BinaryOperationNode,
  ColumnNode,
  type DeleteQueryNode,
  IdentifierNode,
  type InsertQueryNode,
  JoinNode,
  type KyselyPlugin,
  type OperationNode,
  OperationNodeTransformer,
  OperatorNode,
  ParensNode,
  type PluginTransformQueryArgs,
  type PrimitiveValueListNode,
  type RawNode,
  ReferenceNode,
  type RootOperationNode,
  type SelectQueryNode,
  TableNode,
  type UpdateQueryNode,
  ValueListNode,
  ValueNode,
  ValuesNode,
} from 'kysely';

export interface AccountGuardOptions {
  /** Tables that have an `account_id`, as written in a statement: `note`, `fanfare.event`. */
  readonly tables: ReadonlySet<string>;
  /** The only account that statements may name. */
  readonly accountId: string;
}

/**
 * Refuses, before it is sent, any statement on an account's table that does not bind the table's `account_id` to this
 * account: by `account_id = …` in the top-level `where` or a join's `on`, or by equality with a table so bound.
 * A raw fragment that names such a table must name `account_id` too; what it compares it with is not checked.
 */
export class AccountGuard implements KyselyPlugin {
  readonly #check: GuardTransformer;

  constructor(options: AccountGuardOptions) {
    this.#check = new GuardTransformer(options);
  }

  transformQuery({ node, queryId }: PluginTransformQueryArgs): RootOperationNode {
    return this.#check.transformNode(node, queryId);
  }

  async transformResult<R>({ result }: { result: R }): Promise<R> {
    return result;
  }
}

/** One `from` or `join` member: the table and the name that it goes by in the statement. */
interface Source {
  readonly table: string;
  readonly name: string;
}

/** A condition; with `only` it says nothing of other names, as in the `on` of an outer join. */
interface Term {
  readonly term: OperationNode;
  readonly only?: string;
}

/** `to` is bound if `from` is, or outright. */
interface Binding {
  readonly from: string | undefined;
  readonly to: string;
}

type QueryId = Parameters<OperationNodeTransformer['transformNode']>[1];

class GuardTransformer extends OperationNodeTransformer {
  readonly #tables: ReadonlySet<string>;
  readonly #accountId: string;

  constructor({ tables, accountId }: AccountGuardOptions) {
    super();
    this.#tables = tables;
    this.#accountId = accountId;
  }

  protected override transformSelectQuery(node: SelectQueryNode, queryId?: QueryId): SelectQueryNode {
    this.#checkSources([...(node.from?.froms ?? []), ...(node.joins ?? [])], node.where?.where);
    return super.transformSelectQuery(node, queryId);
  }

  protected override transformUpdateQuery(node: UpdateQueryNode, queryId?: QueryId): UpdateQueryNode {
    const tables = node.table ? [node.table] : [];
    this.#checkSources([...tables, ...(node.from?.froms ?? []), ...(node.joins ?? [])], node.where?.where);
    refuseMove(node.updates);
    return super.transformUpdateQuery(node, queryId);
  }

  protected override transformDeleteQuery(node: DeleteQueryNode, queryId?: QueryId): DeleteQueryNode {
    this.#checkSources([...node.from.froms, ...(node.using?.tables ?? []), ...(node.joins ?? [])], node.where?.where);
    return super.transformDeleteQuery(node, queryId);
  }

  protected override transformInsertQuery(node: InsertQueryNode, queryId?: QueryId): InsertQueryNode {
    const table = node.into ? tableName(node.into) : undefined;
    if (table !== undefined && this.#tables.has(table)) this.#checkInsert(table, node);
    return super.transformInsertQuery(node, queryId);
  }

  protected override transformMergeQuery(): never {
    throw refusal('merge is not supported here; use insert … on conflict');
  }

  protected override transformRaw(node: RawNode, queryId?: QueryId): RawNode {
    const text = rawText(node);
    const named = /\baccount_id\b/i.test(text) ? undefined : [...this.#tables].find((table) => namesTable(text, table));
    if (named !== undefined) throw unbound(named);
    return super.transformRaw(node, queryId);
  }

  #checkSources(members: readonly OperationNode[], where: OperationNode | undefined): void {
    const sources = members.flatMap((member) => sourceOf(JoinNode.is(member) ? member.table : member));
    const guarded = sources.filter(({ table }) => this.#tables.has(table));
    if (guarded.length === 0) return;
    const bound = this.#boundNames(
      [...conjuncts(where).map((term) => ({ term })), ...members.flatMap(joinTerms)],
      sources,
    );
    const missing = guarded.find(({ name }) => !bound.has(name));
    if (missing) throw unbound(missing.table);
  }

  /** The names whose account_id equals this account's, directly or through other names. */
  #boundNames(terms: readonly Term[], sources: readonly Source[]): ReadonlySet<string> {
    const bound = new Set<string>();
    const bindings = terms.flatMap((term) => this.#bindings(term, sources));
    for (let before = -1; before !== bound.size; ) {
      before = bound.size;
      for (const { from, to } of bindings) if (from === undefined || bound.has(from)) bound.add(to);
    }
    return bound;
  }

  #bindings({ term, only }: Term, sources: readonly Source[]): Binding[] {
    if (!BinaryOperationNode.is(term) || !OperatorNode.is(term.operator) || term.operator.operator !== '=') return [];
    const sides = [term.leftOperand, term.rightOperand];
    const [left, right] = sides.map((side) => accountColumnOf(side, sources));
    const isGiven = sides.some((side) => this.#isAccount(side));
    const found: Binding[] = [];
    if (left && (right || isGiven)) found.push({ from: right, to: left });
    if (right && (left || isGiven)) found.push({ from: left, to: right });
    return found.filter(({ to }) => only === undefined || to === only);
  }

  #isAccount(node: OperationNode): boolean {
    return ValueNode.is(node) && node.value === this.#accountId;
  }

  #checkInsert(table: string, node: InsertQueryNode): void {
    const at = node.columns?.findIndex(({ column }) => column.name === 'account_id') ?? -1;
    const rows = node.values && ValuesNode.is(node.values) ? node.values.values : [];
    if (at < 0 || rows.length === 0 || !rows.every((row) => this.#isAccountValue(row, at))) {
      throw refusal(`insert into "${table}" needs account_id = this account in each row of its values`);
    }
    this.#checkConflict(table, node);
  }

  /** The row in conflict may be another account's. */
  #checkConflict(table: string, { onConflict }: InsertQueryNode): void {
    if (onConflict?.updates === undefined) return;
    refuseMove(onConflict.updates);
    const terms = conjuncts(onConflict.updateWhere?.where).map((term) => ({ term }));
    if (!this.#boundNames(terms, [{ table, name: table }]).has(table)) {
      throw refusal(
        `on conflict do update of "${table}" needs a where that holds "${table}.account_id" = this account`,
      );
    }
  }

  #isAccountValue(row: PrimitiveValueListNode | ValueListNode, at: number): boolean {
    if (!ValueListNode.is(row)) return row.values[at] === this.#accountId;
    const value = row.values[at];
    return value !== undefined && this.#isAccount(value);
  }
}

function joinTerms(member: OperationNode): Term[] {
  if (!JoinNode.is(member) || member.on === undefined) return [];
  const terms = conjuncts(member.on.on);
  if (member.joinType === 'InnerJoin' || member.joinType === 'LateralInnerJoin') return terms.map((term) => ({ term }));
  const joined = sourceOf(member.table)[0]?.name;
  const isLeft = member.joinType === 'LeftJoin' || member.joinType === 'LateralLeftJoin';
  return isLeft && joined !== undefined ? terms.map((term) => ({ term, only: joined })) : [];
}

function refuseMove(updates: UpdateQueryNode['updates']): void {
  for (const { column } of updates ?? []) {
    const target = ReferenceNode.is(column) ? column.column : column;
    if (ColumnNode.is(target) && target.column.name === 'account_id') throw refusal('account_id can not be changed');
  }
}

/** A raw fragment with the names that stand in it as nodes of their own. */
function rawText({ sqlFragments, parameters }: RawNode): string {
  return sqlFragments.map((text, at) => `${text}${nameIn(parameters[at])}`).join('');
}

function nameIn(node: OperationNode | undefined): string {
  if (node === undefined) return '';
  if (IdentifierNode.is(node)) return node.name;
  return tableName(node) ?? ' ? ';
}

/** Whether a text names a table itself, not only a column of it. */
function namesTable(text: string, table: string): boolean {
  const name = table
    .split('.')
    .map((part) => `"?${part}"?`)
    .join('\\.');
  return new RegExp(`(^|[^\\w."]|\\bpublic"?\\."?)${name}(?![\\w."])`, 'i').test(text);
}

function sourceOf(node: OperationNode): Source[] {
  if (AliasNode.is(node)) {
    const table = tableName(node.node);
    const alias = IdentifierNode.is(node.alias) ? node.alias.name : undefined;
    return table === undefined || alias === undefined ? [] : [{ table, name: alias }];
  }
  const table = tableName(node);
  return table === undefined ? [] : [{ table, name: table }];
}

function tableName(node: OperationNode): string | undefined {
  if (!TableNode.is(node)) return undefined;
  const { schema, identifier } = node.table;
  return schema === undefined || schema.name === 'public' ? identifier.name : `${schema.name}.${identifier.name}`;
}

function conjuncts(node: OperationNode | undefined): OperationNode[] {
  if (node === undefined) return [];
  if (ParensNode.is(node)) return conjuncts(node.node);
  return AndNode.is(node) ? [...conjuncts(node.left), ...conjuncts(node.right)] : [node];
}

/** Whose `account_id` a reference means; an unqualified one is taken only where there is a single source. */
function accountColumnOf(node: OperationNode, sources: readonly Source[]): string | undefined {
  if (!ReferenceNode.is(node) || !ColumnNode.is(node.column) || node.column.column.name !== 'account_id')
    return undefined;
  if (node.table) return tableName(node.table);
  return sources.length === 1 ? sources[0]?.name : undefined;
}

function unbound(table: string): Error {
  return refusal(`a statement on "${table}" must hold account_id = this account in its where, or in the join's on`);
}

function refusal(message: string): Error {
  return new Error(`account guard: ${message}`);
}
