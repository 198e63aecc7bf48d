import type { Connection, Statement } from "./open.ts";

/**
 * The file, the disk or the lock failed. After a BUSY libSQL reports writes that it never commits (libsql-client-ts #352), after a
 * failed fsync the next one succeeds without the data.
 */
const isFailure = (error: unknown): boolean => /^SQLITE_(BUSY|IOERR|CORRUPT|NOTADB)/.test(codeOf(error));

/**
 * A part of the file can't be read. That is no reason to end: nothing is half done by it, commits after it are whole, and whoever
 * has a damaged page still wants to save the rest.
 */
export const isUnreadable = (error: unknown): boolean => /^SQLITE_(IOERR|CORRUPT|NOTADB)/.test(codeOf(error));

const codeOf = (error: unknown) => String((error as { code?: unknown } | undefined)?.code ?? "");

interface Watch {
  failure?: unknown;
  listener?: ((error: unknown) => void) | undefined;
}

type Kind = "read" | "delete" | "write";

const watches = new WeakMap<Connection, Watch>();

/**
 * Sees every statement of the connection fail, whoever runs it. After the first failure none is run any more: not one write is
 * said to be kept that may not be.
 */
export function watchFailures(connection: Connection): void {
  const watch: Watch = {};
  watches.set(connection, watch);

  const guarded =
    <Arguments extends unknown[], Result>(call: (...args: Arguments) => Result, kind: Kind) =>
    (...args: Arguments): Result => {
      if (watch.failure !== undefined) throw watch.failure;
      try {
        return call(...args);
      } catch (error) {
        if (isFailure(error) && !isHarmless(error, kind)) {
          watch.failure = error;
          watch.listener?.(error);
        }
        throw error;
      }
    };

  const isHarmless = (error: unknown, kind: Kind): boolean =>
    (kind === "read" && isUnreadable(error)) ||
    // By itself it is rolled back. What is deleted already must not end each start.
    (kind === "delete" && codeOf(error).startsWith("SQLITE_CORRUPT") && !connection.inTransaction);

  const prepare = connection.prepare.bind(connection);
  connection.exec = guarded(connection.exec.bind(connection), "write");
  connection.prepare = guarded((sql: string) => {
    const statement = prepare(sql) as Statement;
    const kind = kindOf(sql);
    for (const name of ["run", "get", "all", "iterate"] as const)
      Object.assign(statement, { [name]: guarded(statement[name].bind(statement), kind) });
    return statement;
    // Reads the schema at the most.
  }, "read") as Connection["prepare"];
}

/** What is a write in doubt: of a PRAGMA's most do. */
function kindOf(sql: string): Kind {
  if (/^\s*DELETE\b/i.test(sql)) return "delete";
  const isRead = /^\s*(SELECT|WITH|EXPLAIN)\b/i.test(sql) && !/\b(INSERT|UPDATE|DELETE|REPLACE)\b/i.test(sql);
  return isRead ? "read" : "write";
}

/** `listener` hears of the first failure, once; undefined: nobody any more. */
export function onFailure(connection: Connection, listener: ((error: unknown) => void) | undefined): void {
  const watch = watches.get(connection);
  if (watch) watch.listener = listener;
}
