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
    for (const { column } of node.updates ?? []) {
      if (ColumnNode.is(column) && column.column.name === 'account_id') throw refusal('account_id can not be changed');
    }
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
    const text = node.sqlFragments.join(' ? ');
    for (const table of this.#tables) {
      const named = new RegExp(
        `\\b(from|join|into|update|only|using)\\s+"?${table.replace('.', '"?\\."?')}"?(?![\\w.])`,
        'i',
      );
      if (named.test(text) && !/\baccount_id\b/i.test(text)) throw unbound(table);
    }
    return super.transformRaw(node, queryId);
  }

  #checkSources(members: readonly OperationNode[], where: OperationNode | undefined): void {
    const sources = members.flatMap((member) => sourceOf(JoinNode.is(member) ? member.table : member));
    const guarded = sources.filter(({ table }) => this.#tables.has(table));
    if (guarded.length === 0) return;
    const joins = members.flatMap((member) => (JoinNode.is(member) && member.on ? conjuncts(member.on.on) : []));
    const bound = this.#boundNames([...conjuncts(where), ...joins], sources);
    const missing = guarded.find(({ name }) => !bound.has(name));
    if (missing) throw unbound(missing.table);
  }

  /** The names whose account_id equals this account's, directly or through other names. */
  #boundNames(terms: readonly OperationNode[], sources: readonly Source[]): ReadonlySet<string> {
    const bound = new Set<string>();
    const equal: [string, string][] = [];
    const nameOf = (node: OperationNode) => accountColumnOf(node, sources);
    for (const term of terms) {
      if (!BinaryOperationNode.is(term) || !OperatorNode.is(term.operator) || term.operator.operator !== '=') continue;
      const left = nameOf(term.leftOperand);
      const right = nameOf(term.rightOperand);
      if (left && right) equal.push([left, right]);
      else if (left && this.#isAccount(term.rightOperand)) bound.add(left);
      else if (right && this.#isAccount(term.leftOperand)) bound.add(right);
    }
    for (let before = -1; before !== bound.size; ) {
      before = bound.size;
      for (const pair of equal) if (pair.some((name) => bound.has(name))) for (const name of pair) bound.add(name);
    }
    return bound;
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
  }

  #isAccountValue(row: PrimitiveValueListNode | ValueListNode, at: number): boolean {
    if (!ValueListNode.is(row)) return row.values[at] === this.#accountId;
    const value = row.values[at];
    return value !== undefined && this.#isAccount(value);
  }
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
