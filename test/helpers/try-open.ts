/** Opens a database with our rules, or as plain libSQL does (`bare`), writes a row, and prints what came of it. */
import Database from "libsql";
import { openConnection } from "../../src/store/open.ts";

const [path, how] = process.argv.slice(2);
try {
  const connection = how === "bare" ? new Database(path!) : openConnection(path!);
  connection.exec("CREATE TABLE IF NOT EXISTS other (id INTEGER)");
  console.log("opened");
} catch (error) {
  console.log((error as Error).message);
}
process.exit(0);
