import { describe, expect, test } from "bun:test";
import { checkedStep, encodeConfig, encodeMetrics, type Metrics } from "../src/client/typescript/values.ts";

const cyclic: Record<string, unknown> = {};
cyclic["self"] = cyclic;

describe("metrics travel as", () => {
  const cases: [name: string, given: Metrics, sent: unknown][] = [
    ["numbers", { a: 1.5, b: -0, c: 1e308 }, { a: 1.5, b: -0, c: 1e308 }],
    [
      "NaN and the infinities by name",
      { a: NaN, b: Infinity, c: -Infinity },
      { a: "NaN", b: "Infinity", c: "-Infinity" },
    ],
    ["bigints as numbers", { a: 3n, b: 2n ** 70n }, { a: 3, b: 2 ** 70 }],
    [
      "text, booleans, null and lists",
      { a: "x", b: true, c: null, d: [1, NaN, "y"] },
      { a: "x", b: true, c: null, d: [1, "NaN", "y"] },
    ],
    [
      "objects with keys joined by /",
      { train: { loss: 1, deep: { acc: 2 } } },
      { "train/loss": 1, "train/deep/acc": 2 },
    ],
    ["keys as they were given", { "Train/Loss ü": 1, __proto__x: 2 }, { "Train/Loss ü": 1, __proto__x: 2 }],
    ["what wraps a number", { a: Object(2) as number }, { a: 2 }],
    ["typed arrays as lists", { a: new Float32Array([1, 2]) as unknown as number[] }, { a: [1, 2] }],
  ];
  for (const [name, given, sent] of cases)
    test(name, () => expect({ ...encodeMetrics(given) }).toEqual(sent as Record<string, never>));

  test("an own key __proto__ stays a key", () => {
    expect(JSON.stringify(encodeMetrics(JSON.parse('{"__proto__":1}') as Metrics))).toBe('{"__proto__":1}');
  });
});

describe("what can't be recorded is an error that names the metric", () => {
  const cases: [name: string, given: unknown, says: string][] = [
    ["a function", { loss: () => 1 }, "metric loss: cannot log a function"],
    ["undefined", { loss: undefined }, "metric loss: cannot log a undefined"],
    ["a symbol", { a: { b: Symbol("x") } }, "metric a/b"],
    ["a class", { map: new Map() }, "metric map: cannot log a Map"],
    ["a value that contains itself", cyclic, "nested too deeply"],
    ["an empty name", { "": 1 }, "metric name"],
    ["a control character in a name", { "a\nb": 1 }, "control characters"],
    ["a name that is too long", { ["x".repeat(501)]: 1 }, "metric name"],
    ["no object", 5, "metrics must be an object"],
    ["an array", [1], "metrics must be an object such as {loss: 0.3}, not an array"],
  ];
  for (const [name, given, says] of cases)
    test(name, () => expect(() => encodeMetrics(given as Metrics)).toThrow(says));
});

test("steps", () => {
  expect([checkedStep(0), checkedStep(-5), checkedStep(7n), checkedStep(1.5)]).toEqual([0, -5, 7, 1.5]);
  for (const bad of [NaN, Infinity, 1e308, "3", {}])
    expect(() => checkedStep(bad as number)).toThrow("step must");
});

test("a config keeps large integers exactly and everything else as text or JSON", () => {
  const config = {
    lr: 0.1,
    n: 2n ** 64n,
    small: 5n,
    nan: NaN,
    when: new Date(0),
    gone: undefined,
    set: new Set([1]),
    f: null,
  };
  expect(encodeConfig(config)).toEqual({
    lr: 0.1,
    n: "18446744073709551616",
    small: 5,
    nan: "NaN",
    when: "1970-01-01T00:00:00.000Z",
    set: [1],
    f: null,
  });
  expect(() => encodeConfig(cyclic)).toThrow("nested too deeply");
});
