import { expect, test } from "bun:test";
import { join } from "node:path";
import { z } from "zod";
import { CollectorError } from "../src/error.ts";
import { createIngest } from "../src/fedml/broker-ingest.ts";
import { createCounts } from "../src/fedml/counts.ts";
import { closeConnection, openConnection } from "../src/store/open.ts";
import { remove, temporaryFolder } from "./helpers/binary.ts";

const sqlite = (code: string) => Object.assign(new Error("said so"), { code });
const wrapped = (cause: unknown) => new Error("Failed query", { cause });

/** The error that a use of a closed connection makes. */
function closed(): unknown {
  const folder = temporaryFolder();
  const connection = openConnection(join(folder, "binnacle.db"));
  closeConnection(connection);
  remove(folder);
  try {
    connection.prepare("SELECT 1");
  } catch (error) {
    return error;
  }
}

const faults: [what: string, error: unknown, later: boolean][] = [
  ["a lock", wrapped(sqlite("SQLITE_BUSY")), true],
  ["a full disk", sqlite("SQLITE_FULL"), true],
  ["a disk that can't be read", wrapped(wrapped(sqlite("SQLITE_IOERR_READ"))), true],
  ["a damaged page", sqlite("SQLITE_CORRUPT"), true],
  ["a file that can't be written", sqlite("ENOSPC"), true],
  ["a database that was closed", closed(), true],
  ["our own word that it is busy", wrapped(new CollectorError("busy", "Later.")), true],
  ["our own word that it is invalid", wrapped(new CollectorError("invalid", "Never.")), false],
  ["a name that is not there", new ReferenceError("no is not defined"), false],
  ["a value of the wrong type", wrapped(new TypeError("undefined is not an object")), false],
  ["a number beyond its range", new RangeError("Invalid count value"), false],
  ["a shape that is wrong", z.string().safeParse(1).error, false],
  ["a value that a constraint forbids", wrapped(sqlite("SQLITE_CONSTRAINT_NOTNULL")), false],
  ["a text that is too long", sqlite("SQLITE_TOOBIG"), false],
  ["an argument that node refuses", sqlite("ERR_INVALID_ARG_TYPE"), false],
];

test.each(faults)("of %s it is known whether the message is welcome again", async (_what, error, later) => {
  const counts = createCounts();
  const ingest = createIngest({
    topics: [{ filter: "t", receive: () => Promise.reject(error) }],
    counts,
    now: Date.now,
    onDiagnostic: () => {},
  });
  const problem = await ingest({ topic: "t", payload: "{}" }, { run: "1" }, "c").catch((e: unknown) => e);
  expect(problem instanceof CollectorError).toBe(later);
  expect(counts.list()).toHaveLength(later ? 0 : 1);
});
