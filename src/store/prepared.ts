import type { Connection, Statement } from "./open.ts";

const byConnection = new WeakMap<Connection, Map<string, Statement>>();

/** The statement of this text, prepared once for the life of a connection. */
export function prepared(connection: Connection, sql: string): Statement {
  let statements = byConnection.get(connection);
  if (!statements) byConnection.set(connection, (statements = new Map()));
  let statement = statements.get(sql);
  if (!statement) statements.set(sql, (statement = connection.prepare(sql)));
  return statement;
}
