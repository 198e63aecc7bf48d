import { afterAll, beforeAll, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const root = join(import.meta.dirname, "..");

/** A file, a line in it, and what the linter has to say (undefined: nothing). */
const cases: [path: string, line: string, message: string | undefined][] = [
  ["src/store/a.ts", `import "../metric/append.ts";`, "The store knows no concept"],
  ["src/store/b.ts", `import "../metric/schema.ts";`, undefined],
  ["src/store/c.ts", `import "../api/runs.ts";`, "The store knows no edge"],
  ["src/store/d.ts", `import { openCollector } from "../collector.ts"; openCollector();`, "cli/start.ts"],
  [
    "src/store/e.ts",
    `import type { Collector } from "../collector.ts"; export type C = Collector;`,
    undefined,
  ],
  ["src/metric/a.ts", `import "../api/metrics.ts";`, "A concept knows no edge"],
  ["src/metric/b.ts", `import "../log/append.ts";`, "at most run/"],
  ["src/metric/c.ts", `import "../run/find.ts";`, undefined],
  ["src/log/a.ts", `import "../metric/append.ts";`, "at most run/"],
  ["src/log/b.ts", `const m = await import("../ui/page.ts"); export { m };`, "A concept knows no edge"],
  ["src/span/a.ts", `import "../metric/append.ts";`, "at most run/"],
  ["src/span/b.ts", `import "../run/find.ts"; import "../metric/schema.ts";`, undefined],
  ["src/span/c.ts", `import "../api/spans.ts";`, "A concept knows no edge"],
  ["src/log/c.ts", `import "../span/record.ts";`, "at most run/"],
  ["src/store/k.ts", `import "../span/record.ts";`, "The store knows no concept"],
  ["src/run/h.ts", `import "../span/record.ts";`, "run/ is what the other concepts stand on"],
  ["src/run/a.ts", `import "../metric/append.ts";`, "run/ is what the other concepts stand on"],
  ["src/api/a.ts", `import "../ui/page.ts";`, "Edges don't know each other"],
  ["src/api/b.ts", `import "drizzle-orm";`, "An edge asks a concept's verb"],
  ["src/ui/routes.ts", `import "../store/tables.ts";`, "An edge asks a concept's verb"],
  ["src/ui/pages/a.ts", `import "../../api/runs.ts";`, "Edges don't know each other"],
  ["src/ui/pages/b.ts", `import "../../run/find.ts";`, undefined],
  ["src/cli/a.ts", `import "../store/open.ts";`, "through the client"],
  ["src/cli/b.ts", `import "../run/create.ts";`, "through the client"],
  ["src/cli/c.ts", `import "../client/typescript/http.ts";`, undefined],
  ["src/cli/start.ts", `import "../store/open.ts";`, undefined],
  ["src/client/typescript/a.ts", `import "../../store/open.ts";`, "A client speaks HTTP"],
  ["src/store/f.ts", `import "../sample/append.ts";`, "The store knows no concept"],
  ["src/store/g.ts", `import "../sample/reading.ts"; import "../device/schema.ts";`, undefined],
  ["src/store/h.ts", `import "../machine/sampler.ts";`, "The store knows no edge"],
  ["src/run/f.ts", `import "../device/register.ts";`, "run/ is what the other concepts stand on"],
  ["src/metric/f.ts", `import "../sample/append.ts";`, "at most run/"],
  ["src/sample/a.ts", `import "../metric/append.ts";`, "at most run/"],
  ["src/sample/b.ts", `import "../run/find.ts"; import "../device/schema.ts";`, undefined],
  ["src/sample/c.ts", `import "../machine/rates.ts";`, "A concept knows no edge"],
  ["src/device/a.ts", `import "../sample/append.ts";`, "at most run/"],
  ["src/device/b.ts", `import "../run/find.ts"; import "../sample/schema.ts";`, undefined],
  ["src/device/c.ts", `import "../export/metrics.ts";`, "A concept knows no edge"],
  ["src/blob/a.ts", `import "../artifact/log.ts";`, "Bytes know nothing of what refers to them"],
  ["src/blob/b.ts", `import "../store/open.ts"; import "../error.ts"; import "../runtime.ts";`, undefined],
  ["src/blob/c.ts", `import "../api/blobs.ts";`, "A concept knows no edge"],
  ["src/blob/d.ts", `import "../run/find.ts";`, "Bytes know nothing of what refers to them"],
  ["src/artifact/a.ts", `import "../metric/append.ts";`, "at most run/ and blob/"],
  ["src/artifact/b.ts", `import "../run/find.ts"; import "../blob/schema.ts";`, undefined],
  ["src/artifact/c.ts", `import "../api/artifacts.ts";`, "A concept knows no edge"],
  ["src/run/g.ts", `import "../artifact/log.ts";`, "run/ is what the other concepts stand on"],
  ["src/metric/h.ts", `import "../artifact/log.ts";`, "at most run/"],
  ["src/sample/f.ts", `import "../blob/blobs.ts";`, "at most run/"],
  ["src/store/i.ts", `import "../artifact/log.ts";`, "The store knows no concept"],
  ["src/store/j.ts", `import "../artifact/schema.ts"; import "../blob/schema.ts";`, undefined],
  ["src/machine/e.ts", `import "../artifact/log.ts";`, "stores nothing"],
  ["src/client/typescript/b.ts", `import "../../artifact/log.ts";`, "A client speaks HTTP"],
  [
    "src/client/typescript/c.ts",
    `import "../../artifact/schema.ts"; import "../../blob/schema.ts";`,
    undefined,
  ],
  ["src/cli/f.ts", `import "../blob/blobs.ts";`, "through the client"],
  ["src/cli/g.ts", `import "../artifact/schema.ts";`, undefined],
  ["src/machine/a.ts", `import "../sample/append.ts";`, "stores nothing"],
  ["src/machine/b.ts", `import "../sample/reading.ts"; import "../run/machine.ts";`, undefined],
  ["src/machine/c.ts", `import "../api/runs.ts";`, "knows no edge"],
  ["src/machine/gpu/a.ts", `import "../../device/register.ts";`, "stores nothing"],
  ["src/machine/gpu/b.ts", `import "../../store/journal.ts";`, "stores nothing"],
  ["src/machine/sampler.ts", `import "../sample/append.ts"; import "../device/register.ts";`, undefined],
  ["src/machine/d.ts", `import { openCollector } from "../collector.ts"; openCollector();`, "cli/start.ts"],
  ["src/api/c.ts", `import "../machine/sampler.ts";`, "comes as a parameter"],
  ["src/api/d.ts", `import type { S } from "../machine/sampler.ts"; export type T = S;`, undefined],
  ["src/api/e.ts", `import "../export/metrics.ts";`, "Edges don't know each other"],
  ["src/ui/a.ts", `import "../machine/sampler.ts";`, "comes as a parameter"],
  ["src/export/a.ts", `import "../api/runs.ts";`, "Edges don't know each other"],
  ["src/export/b.ts", `import "../store/tables.ts";`, "An edge asks a concept's verb"],
  ["src/export/c.ts", `import "../device/list.ts"; import "../sample/reading.ts";`, undefined],
  ["src/launch/a.ts", `import "../machine/cgroup.ts";`, "launch reports through the client"],
  ["src/cli/d.ts", `import "../machine/machine.ts";`, "through the client"],
  ["src/cli/e.ts", `import "../device/list.ts";`, "through the client"],
  ["src/cli/gpu-reader.ts", `import "../machine/gpu/reader.ts";`, undefined],
  ["src/cli/check-database.ts", `import "../store/check.ts";`, undefined],
  ["src/archive/a.ts", `import "../metric/rows.ts"; import "../artifact/log.ts";`, undefined],
  ["src/archive/b.ts", `import "../api/runs.ts";`, "A concept knows no edge"],
  ["src/doctor/a.ts", `import "../artifact/holders.ts"; import "../store/check.ts";`, undefined],
  ["src/doctor/b.ts", `import "../api/doctor.ts";`, "A concept knows no edge"],
  ["src/relay/a.ts", `import "../api/runs.ts";`, "A concept knows no edge"],
  ["src/relay/b.ts", `import "../run/find.ts"; export const now = Date.now();`, undefined],
  ["src/source/a.ts", `import { openCollector } from "../collector.ts"; openCollector();`, "cli/start.ts"],
  ["src/source/b.ts", `import "../cli/start.ts";`, "A concept knows no edge"],
  ["src/fedml/a.ts", `import "../api/runs.ts";`, "Edges don't know each other"],
  ["src/fedml/b.ts", `import "../export/metrics.ts";`, "Edges don't know each other"],
  ["src/fedml/c.ts", `import "../client/typescript/http.ts";`, "Edges don't know each other"],
  ["src/fedml/d.ts", `import "../relay/spoken.ts";`, "beside it"],
  ["src/fedml/e.ts", `import "../archive/zip-write.ts";`, "beside it"],
  ["src/fedml/f.ts", `import "../store/tables.ts";`, "An edge asks a concept's verb"],
  ["src/fedml/g.ts", `import { openCollector } from "../collector.ts"; openCollector();`, "cli/start.ts"],
  ["src/fedml/h.ts", `import "../machine/sampler.ts";`, "comes as a parameter"],
  [
    "src/fedml/i.ts",
    `import "../run/find.ts"; import "../metric/append.ts"; import "../artifact/log.ts"; import "../blob/schema.ts"; import "../store/bus.ts";`,
    undefined,
  ],
  ["src/store/l.ts", `import "../fedml/json.ts";`, "The store knows no edge"],
  ["src/run/i.ts", `import "../fedml/status.ts";`, "A concept knows no edge"],
  ["src/metric/g.ts", `import "../fedml/metrics.ts";`, "A concept knows no edge"],
  ["src/artifact/d.ts", `import "../fedml/artifacts.ts";`, "A concept knows no edge"],
  ["src/blob/e.ts", `import "../fedml/storage.ts";`, "A concept knows no edge"],
  ["src/span/d.ts", `import "../fedml/events.ts";`, "A concept knows no edge"],
  ["src/doctor/c.ts", `import "../fedml/counts.ts";`, "A concept knows no edge"],
  ["src/archive/c.ts", `import "../fedml/edge.ts";`, "A concept knows no edge"],
  ["src/relay/c.ts", `import "../fedml/keys.ts";`, "A concept knows no edge"],
  ["src/relay/fedml/a.ts", `import "../../fedml/topic.ts";`, "A concept knows no edge"],
  ["src/relay/d.ts", `import "./fedml/lane.ts";`, undefined],
  ["src/machine/f.ts", `import "../fedml/hardware.ts";`, "knows no edge"],
  ["src/api/f.ts", `import "../fedml/edge.ts";`, "Edges don't know each other"],
  ["src/ui/b.ts", `import "../fedml/edge.ts";`, "Edges don't know each other"],
  ["src/export/d.ts", `import "../fedml/edge.ts";`, "Edges don't know each other"],
  ["src/client/typescript/d.ts", `import "../../fedml/env.ts";`, "A client speaks HTTP"],
  ["src/cli/h.ts", `import "../fedml/keys.ts";`, "only its variables"],
  ["src/cli/i.ts", `import "../fedml/env.ts"; import "../relay/fedml/address.ts";`, undefined],
  ["src/launch/b.ts", `import "../fedml/edge.ts";`, "only its variables"],
  ["src/launch/c.ts", `import "../fedml/env.ts";`, undefined],
  ["src/relay/deliver.ts", `import "./ports.ts"; import "./stream.ts";`, undefined],
  ["src/relay/stream.ts", `import "./outbox.ts";`, "stands on its ports alone"],
  ["src/relay/bring.ts", `import "node:timers";`, "stands on its ports alone"],
  ["src/relay/greeting.ts", `export const now = () => Date.now();`, "stands on its ports alone"],
  ["src/relay/line.ts", `export const now = () => new Date();`, "stands on its ports alone"],
  ["src/relay/pace.ts", `export const now = () => performance.now();`, "stands on its ports alone"],
  ["src/relay/back-off.ts", `export const jitter = () => Math.random();`, "stands on its ports alone"],
  ["src/relay/openings.ts", `export const id = () => crypto.randomUUID();`, "stands on its ports alone"],
  [
    "src/relay/epoch-guard.ts",
    `setTimeout(() => {}, 1); setInterval(() => {}, 1);`,
    "stands on its ports alone",
  ],
  ["src/relay/trouble.ts", `export const later = AbortSignal.timeout(1);`, "stands on its ports alone"],
  [
    "src/relay/contract.ts",
    `export const answer = () => fetch("http://localhost");`,
    "stands on its ports alone",
  ],
  ["src/relay/ports.ts", `export const env = process.env;`, "stands on its ports alone"],
  [
    "src/relay/digest.ts",
    `import { randomBytes } from "node:crypto"; randomBytes(1);`,
    "stands on its ports alone",
  ],
  ["src/source/accept.ts", `export const later = () => setImmediate(() => {});`, "stands on its ports alone"],
  ["src/run/b.ts", `import "bun:sqlite";`, "Use a node: built-in"],
  ["src/run/c.ts", `import "bun";`, "Use a node: built-in"],
  ["src/run/d.ts", `Bun.gc();`, "also runs on Deno"],
  ["src/run/e.ts", `Deno.cwd();`, "also runs on Bun"],
  ["src/runtime.ts", `Bun.gc(); Deno.cwd();`, undefined],
  ["src/metric/d.ts", `import { y } from "./e.ts"; export const x = y;`, "Dependency cycle"],
  ["src/metric/e.ts", `import { x } from "./d.ts"; export const y = x;`, "Dependency cycle"],
];

interface Diagnostic {
  message: string;
  code: string;
  help?: string;
  filename: string;
}

const folder = mkdtempSync(join(tmpdir(), "binnacle-lint-"));
const found = new Map<string, string>();

beforeAll(() => {
  copyFileSync(join(root, ".oxlintrc.json"), join(folder, ".oxlintrc.json"));
  for (const [path, line] of cases) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), `${line}\n`);
  }
  const { stdout } = Bun.spawnSync([join(root, "node_modules/.bin/oxlint"), "--format", "json"], {
    cwd: folder,
  });
  const { diagnostics } = JSON.parse(stdout.toString()) as { diagnostics: Diagnostic[] };
  for (const { filename, code, message, help } of diagnostics)
    if (/no-restricted|no-cycle/.test(code))
      found.set(filename, `${found.get(filename) ?? ""}${code} ${message} ${help}\n`);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

for (const [path, line, message] of cases)
  test(`${path}: ${line} is ${message === undefined ? "allowed" : "refused"}`, () => {
    if (message === undefined) expect(found.get(path)).toBeUndefined();
    else expect(found.get(path)).toContain(message);
  });

test("no source file is ignored by git", () => {
  const { stdout, exitCode } = Bun.spawnSync(
    ["git", "check-ignore", "-v", "src/log/append.ts", "src/log", "src/build", "src/build/build.ts"],
    { cwd: root },
  );
  expect(stdout.toString()).toBe("");
  expect(exitCode).toBe(1);
});
