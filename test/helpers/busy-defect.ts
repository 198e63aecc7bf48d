/**
 * What libSQL does after one SQLITE_BUSY, on a connection without our rules: `bun busy-defect.ts FILE` prints what it was told and waits
 * to be killed.
 */
import Database from "libsql";

const path = process.argv[2]!;
const holder = new Database(path);
holder.exec("PRAGMA journal_mode=WAL");
holder.exec("CREATE TABLE row (id INTEGER PRIMARY KEY)");
const ours = new Database(path);
// One statement a write, as clients of libSQL do; the one that failed stays "in progress" until it is collected.
const statements: Database.Statement[] = [];
function insert(id: number) {
  const statement = ours.prepare("INSERT INTO row (id) VALUES (?)");
  statements.push(statement);
  return statement.run(id);
}

holder.exec("BEGIN IMMEDIATE");
let refused: unknown;
try {
  insert(1);
} catch (error) {
  refused = (error as { code?: string }).code;
}
holder.exec("COMMIT");
const changes = [2, 3, 4].map((id) => insert(id).changes);
console.log(JSON.stringify({ refused, changes, inTransaction: ours.inTransaction }));
setInterval(() => statements, 1000);
