/**
 * The reference: a row per point on the same libSQL with the same durability, in the fastest form we found
 * (one INSERT … SELECT from json_each a batch). It is flattered: no HTTP, no validation, no second process.
 */
import Database from "libsql";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRandom, TEN_KEYS, trainingValue } from "./load.ts";

/** Points a second over `seconds`, batches of 1,000 records × 10 metrics, a commit each. */
export function measureRowStore(seconds: number): number {
  const folder = mkdtempSync(join(tmpdir(), "row-store-"));
  const database = new Database(join(folder, "rows.db"));
  database.exec("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL");
  database.exec(
    "CREATE TABLE point (run INTEGER, key INTEGER, step INTEGER, time REAL, value REAL, PRIMARY KEY (run, key, step)) WITHOUT ROWID",
  );
  const insert = database.prepare(
    "INSERT INTO point SELECT 1, value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?)",
  );
  const value = trainingValue(createRandom(1));
  let points = 0;
  const begun = performance.now();
  for (let step = 0; performance.now() - begun < seconds * 1000; step += 1000) {
    const rows: number[][] = [];
    for (let record = 0; record < 1000; record++)
      for (let key = 0; key < TEN_KEYS.length; key++)
        rows.push([key, step + record, 1_700_000_000_000 + step + record, value(key, record)]);
    insert.run(JSON.stringify(rows));
    points += rows.length;
  }
  const rate = points / ((performance.now() - begun) / 1000);
  database.close();
  rmSync(folder, { recursive: true, force: true });
  return rate;
}
