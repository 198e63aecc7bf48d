/**
 * Guarantees that are turned off, one at a time, to see that the tests tell: `MUTANT=name bun test --preload ./test/helpers/mutate.ts FILE`.
 * Processes that the tests compile have it, too.
 */
import { readFileSync } from "node:fs";
import type { BunPlugin } from "bun";

interface Change {
  /** Below src. */
  file: string;
  from: string;
  to: string;
}

export const mutants = {
  "no AUTOINCREMENT": [
    {
      file: "generated.ts",
      from: "seq INTEGER PRIMARY KEY AUTOINCREMENT,",
      to: "seq INTEGER PRIMARY KEY,",
    },
    {
      file: "store/journal-rows.ts",
      from: "SELECT seq FROM sqlite_sequence WHERE name = 'journal'",
      to: "SELECT max(seq) AS seq FROM journal",
    },
  ],
  "the platform's cursor is committed before the entries": [
    {
      file: "source/receive.ts",
      from: "const writes: Write[] = [...plan.bookkeeping(), writeOfState(held.id, state, brought)];",
      to: "const writes: Write[] = [...plan.bookkeeping()];\n    commitWrites(collector, [writeOfState(held.id, state, brought)]);",
    },
  ],
  "the platform's cursor is committed after the entries": [
    {
      file: "source/receive.ts",
      from: "const writes: Write[] = [...plan.bookkeeping(), writeOfState(held.id, state, brought)];",
      to: "const writes: Write[] = [...plan.bookkeeping()];",
    },
    {
      file: "source/receive.ts",
      from: "    held.state = state;\n",
      to: "    commitWrites(collector, [writeOfState(held.id, state, brought)]);\n    held.state = state;\n",
    },
  ],
  "a client is answered before COMMIT": [
    {
      file: "store/journal.ts",
      from: "    queue.push({ entry, data, writes: entryWrites, joined: false, resolve, reject });\n      schedule();",
      to: "    const isEarly = entry.kind === 'metric.appended';\n    if (isEarly) resolve(lastSeq);\n    queue.push({ entry, data, writes: entryWrites, joined: false, resolve: isEarly ? () => {} : resolve, reject });\n    setTimeout(schedule, 5);",
    },
  ],
  "what found no room counts as stored": [
    {
      file: "store/journal.ts",
      from: "reject([...group, ...queue], diskFull(error));",
      to: "for (const pending of group) pending.resolve(lastSeq);",
    },
  ],
  "a platform answers before COMMIT": [
    {
      file: "source/receive.ts",
      from: "      await collector.journal.appendAll(items);",
      to: "      void collector.journal.appendAll(items);",
    },
  ],
  "the local cursor is trusted": [
    {
      file: "relay/greeting.ts",
      from: "    line.acked = acked;\n",
      to: "    line.acked = outbox.state().acked;\n",
    },
  ],
  "files are not looked for again": [
    {
      file: "relay/lane.ts",
      from: "if (cursor.acked < report.status().acked) content.again();",
      to: "",
    },
    {
      file: "relay/lane.ts",
      from: "if (next.history && !report.status().history) content.again();",
      to: "",
    },
  ],
} as const satisfies Record<string, Change[]>;

export type Mutant = keyof typeof mutants;

/** For Bun's loader and its bundler alike. */
export function mutantPlugin(name: string): BunPlugin {
  const changes: readonly Change[] | undefined = mutants[name as Mutant];
  if (!changes) throw new Error(`There is no mutant ${name}.`);
  const files = [...new Set(changes.map(({ file }) => file))];
  const pattern = files.map((file) => file.replaceAll(".", "\\.")).join("|");
  return {
    name: "mutant",
    setup(build) {
      build.onLoad({ filter: new RegExp(`/src/(${pattern})$`) }, ({ path }) => {
        let contents = readFileSync(path, "utf8");
        for (const { from, to } of changes.filter(({ file }) => path.endsWith(`/src/${file}`))) {
          if (!contents.includes(from)) throw new Error(`MUTANT: ${path} has no ${from}`);
          contents = contents.replace(from, () => to);
        }
        // Whoever started this must know that a red test is not a stale table.
        console.error(`MUTATED ${path}`);
        return { contents, loader: "ts" };
      });
    },
  };
}
