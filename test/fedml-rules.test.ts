import { expect, test } from "bun:test";
import { createCounts } from "../src/fedml/counts.ts";
import { parseFedmlJson } from "../src/fedml/json.ts";
import { createKeys } from "../src/fedml/keys.ts";
import { placeRun, runOf } from "../src/fedml/place.ts";
import { deleteRun } from "../src/run/delete.ts";
import { createTokens } from "../src/token.ts";
import { createTestCollector } from "./helpers/collector.ts";

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;

const texts: [text: string, value: unknown][] = [
  ['{"run_id": 1716563514434392064}', { run_id: "1716563514434392064" }],
  ['{"run_id": -1716563514434392064}', { run_id: "-1716563514434392064" }],
  ["9007199254740991", 9007199254740991],
  ["9007199254740993", "9007199254740993"],
  ["[1716563514434392064,1,1716563514434392065]", ["1716563514434392064", 1, "1716563514434392065"]],
  ['{"1716563514434392064": 1716563514434392064}', { "1716563514434392064": "1716563514434392064" }],
  // Inside of strings nothing changes
  ['{"a": "1716563514434392064 NaN"}', { a: "1716563514434392064 NaN" }],
  [
    '{"a": "\\"1716563514434392064", "b": 1716563514434392064}',
    {
      a: '"1716563514434392064',
      b: "1716563514434392064",
    },
  ],
  ['{"a": "\\\\", "b": NaN}', { a: "\\", b: nan }],
  ['{"a": "\\\\\\"NaN", "b": NaN}', { a: '\\"NaN', b: nan }],
  // Python's floats
  ['{"loss": NaN, "up": Infinity, "down": -Infinity}', { loss: nan, up: infinity, down: -infinity }],
  ["NaN", nan],
  ["[NaN,[NaN,{}]]", [nan, [nan, {}]]],
  ['["NaN", "NaN!", "NaN!!", NaN]', ["NaN", "NaN!", "NaN!!", nan]],
  ["0.30000000000000004", 0.30000000000000004],
  ["1.7976931348623157e+308", 1.7976931348623157e308],
  ["1e400", infinity],
  ["-0.1234567890123456789", Number("-0.1234567890123456789")],
  ["1732354413938.6089", 1732354413938.6089],
  // As JSON.parse has it
  ['{"a": [1, "x", true, null, {"b": ""}]}', { a: [1, "x", true, null, { b: "" }] }],
  ['"\\ud800"', "\ud800"],
];
for (const [text, value] of texts)
  test(`${text} is read as FedML means it`, () => expect(parseFedmlJson(text)).toStrictEqual(value));

const malformed = [
  "",
  "{",
  "{'a': 1}",
  '{"a": nan}',
  '{"a": 1NaN}',
  '{"a": 1Infinity}',
  '{"a": NaN1}',
  '{"a": --Infinity}',
  '{"a": 00000000000000000001}',
  '{"a": 1716563514434392064 1}',
  '{"a": "1716563514434392064',
  '{"a": 1}x',
  "\\",
];
for (const text of malformed)
  test(`${JSON.stringify(text)} is refused`, () =>
    expect(() => parseFedmlJson(text)).toThrow(expect.objectContaining({ code: "invalid" })));

test("a message nested without end is refused, and no prototype is touched", () => {
  const deep = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
  expect(() => parseFedmlJson(deep(100_000))).toThrow(expect.objectContaining({ code: "invalid" }));
  expect(() => parseFedmlJson(`{"a":${deep(65)},"b":NaN}`)).toThrow(
    expect.objectContaining({ code: "invalid" }),
  );
  expect(parseFedmlJson(deep(64))).toBeArray();
  const parsed = parseFedmlJson('{"__proto__": {"polluted": NaN}, "a": {"__proto__": NaN}}');
  expect(Object.getPrototypeOf(parsed)).toBe(Object.prototype);
  expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  expect(JSON.stringify(parsed)).toBe('{"__proto__":{"polluted":null},"a":{"__proto__":null}}');
});

test("a text made to look like what stands for NaN takes no longer than another", () => {
  const text = `NaN${"!".repeat(80_000)}`;
  const before = process.cpuUsage();
  expect(parseFedmlJson(`["${text}", NaN]`)).toStrictEqual([text, nan]);
  const { user, system } = process.cpuUsage(before);
  expect((user + system) / 1e6).toBeLessThan(1);
});

test("a text beyond the bound is refused before it is parsed", () => {
  expect(() => parseFedmlJson("1".repeat(64 * 1024 * 1024 + 1))).toThrow(
    expect.objectContaining({ code: "too-large" }),
  );
});

test("a run's keys open that run alone, and end with the token", () => {
  let tokens = createTokens(`bnc_admin_${"a".repeat(64)}`);
  const keys = createKeys(() => tokens);
  const scope = { run: "9.my_run-1" };
  const secret = keys.secretOf(scope);
  const mqtt = keys.mqttOf(scope);
  const s3 = keys.s3Of(scope);
  expect(secret).toMatch(/^9\.my_run-1-[0-9a-f]{32}$/);
  expect(keys.scopeOf(secret)).toEqual(scope);
  expect(keys.scopeOfMqtt(mqtt.user, mqtt.password)).toEqual(scope);
  expect(keys.s3SecretOf(s3.accessKeyId)).toEqual({ scope, secretAccessKey: s3.secretAccessKey });
  expect(new Set([secret.slice(-32), mqtt.password.slice(0, 32), s3.secretAccessKey.slice(0, 32)]).size).toBe(
    3,
  );

  const other = keys.secretOf({ run: "other" });
  for (const wrong of [
    "",
    "-",
    "open",
    "9.my_run-1",
    `x${secret}`,
    `${secret}0`,
    `other${secret.slice(10)}`,
    `../${other}`,
  ])
    expect(keys.scopeOf(wrong)).toBeUndefined();
  expect(keys.scopeOfMqtt("run:other", mqtt.password)).toBeUndefined();
  expect(keys.scopeOfMqtt(mqtt.user, "")).toBeUndefined();
  expect(keys.scopeOfMqtt("", "")).toBeUndefined();
  expect(keys.s3SecretOf("run.other")!.secretAccessKey).not.toBe(s3.secretAccessKey);
  expect(keys.s3SecretOf("run.")).toBeUndefined();
  expect(keys.s3SecretOf("open")).toBeUndefined();

  tokens = createTokens(`bnc_admin_${"b".repeat(64)}`);
  expect(keys.scopeOf(secret)).toBeUndefined();
  expect(keys.scopeOfMqtt(mqtt.user, mqtt.password)).toBeUndefined();
});

test("open keys are there only when asked for, and a run named open has others", () => {
  const tokens = createTokens(`bnc_admin_${"a".repeat(64)}`);
  const shut = createKeys(() => tokens);
  const open = createKeys(() => tokens, { open: true });
  const scope = { run: undefined };
  const { user, password } = open.mqttOf(scope);
  expect(open.scopeOf(open.secretOf(scope))).toEqual(scope);
  expect(open.scopeOfMqtt(user, password)).toEqual(scope);
  expect(open.s3SecretOf(open.s3Of(scope).accessKeyId)!.scope).toEqual(scope);
  expect(shut.scopeOf(shut.secretOf(scope))).toBeUndefined();
  expect(shut.scopeOfMqtt(user, password)).toBeUndefined();
  expect(open.mqttOf({ run: "open" }).password).not.toBe(password);
  expect(open.s3Of({ run: "open" }).secretAccessKey).not.toBe(open.s3Of(scope).secretAccessKey);
});

const openScope = { run: undefined };
const ids: [id: unknown, run: string | undefined][] = [
  ["1716563514434392064", "1716563514434392064"],
  [" 17 ", "17"],
  [17, "17"],
  ["my.run", "my.run"],
  ["0", "fedml-0"],
  [0, "fedml-0"],
  ["", "fedml-0"],
  [null, "fedml-0"],
  [undefined, "fedml-0"],
  ["None", "fedml-0"],
  [-1, undefined],
  [1.5, undefined],
  [nan, undefined],
  ["../x", undefined],
  ["a/b", undefined],
  ["x".repeat(129), undefined],
  [{}, undefined],
  [["1"], undefined],
  [true, undefined],
];
for (const [id, run] of ids)
  test(`open data of run ${JSON.stringify(id)} belongs to ${run ?? "nobody"}`, () => {
    if (run === undefined)
      expect(() => runOf(openScope, id)).toThrow(expect.objectContaining({ code: "invalid" }));
    else expect(runOf(openScope, id)).toBe(run);
    // By a run's own keys it is that run's, whatever it says.
    expect(runOf({ run: "mine" }, id)).toBe("mine");
  });

test("a run that data names comes to be, once, and a deleted one stays deleted", async () => {
  const { collector, json, close } = createTestCollector();
  const placed = await Promise.all(["0", 5, "0", null, 5].map((id) => placeRun(collector, openScope, id)));
  expect(placed).toEqual(["fedml-0", "5", "fedml-0", "fedml-0", "5"]);
  const { runs } = await json("/api/v1/runs");
  expect(
    runs.map((run: { id: string; name: string; project: string }) => [run.id, run.name, run.project]).sort(),
  ).toEqual([
    ["5", "FedML 5", "fedml"],
    ["fedml-0", "FedML, no run id", "fedml"],
  ]);
  await deleteRun(collector, "5", true);
  const error = await placeRun(collector, openScope, 5).catch((e) => e);
  expect(error).toMatchObject({ code: "gone" });
  await close();
});

test("what goes wrong is counted by its name", () => {
  let now = 1;
  const counts = createCounts(() => now);
  expect(counts.list()).toEqual([]);
  counts.add("replayed");
  now = 2;
  counts.add("malformed", 3);
  counts.add("replayed");
  expect(counts.list()).toEqual([
    { what: "malformed", count: 3, last: 2 },
    { what: "replayed", count: 2, last: 2 },
  ]);
});
