import { describe, expect, test } from "bun:test";
import {
  formatAgo,
  formatCount,
  formatDuration,
  formatNumber,
  formatTime,
  plural,
} from "../src/ui/format.ts";

describe("formatNumber", () => {
  const f = (value: number, want: string) =>
    test(String(value), () => expect(formatNumber(value)).toBe(want));
  f(0, "0");
  f(-0, "0");
  f(1, "1");
  f(1234567, "1,234,567");
  f(-1234, "−1,234");
  f(0.123456789, "0.12346");
  f(-0.5, "−0.5");
  f(123.456789, "123.46");
  f(1234.56789, "1234.6");
  f(12154.6, "12,155");
  f(-123456.7, "−123,460");
  f(0.0001, "0.0001");
  f(0.00001234567, "1.2346e−5");
  f(1e-5, "1e−5");
  f(1e9, "1e9");
  f(6.02214076e23, "6.0221e23");
  f(-1e300, "−1e300");
  f(NaN, "NaN");
  f(Infinity, "∞");
  f(-Infinity, "−∞");
});

describe("formatDuration", () => {
  const f = (ms: number, want: string) => test(String(ms), () => expect(formatDuration(ms)).toBe(want));
  f(-5, "0.0 s");
  f(0, "0.0 s");
  f(9_960, "9.9 s");
  f(10_000, "10 s");
  f(59_999, "59 s");
  f(60_000, "1 min 00 s");
  f(3_599_000, "59 min 59 s");
  f(3_600_000, "1 h 00 min");
  f(90_000_000, "1 d 01 h");
});

describe("formatAgo", () => {
  const f = (ms: number, want: string) => test(String(ms), () => expect(formatAgo(ms)).toBe(want));
  f(-1000, "just now");
  f(9_999, "just now");
  f(45_000, "45 s ago");
  f(3_600_000, "1 h ago");
  f(86_400_000 * 400, "1 y ago");
});

test("formatTime, formatCount, plural", () => {
  expect(formatTime(0, { zone: "utc", millis: true })).toBe("1970-01-01 00:00:00.000");
  expect(formatTime(NaN)).toBe("—");
  expect(formatCount(1e21)).toBe("1e+21");
  expect(plural(1, "run")).toBe("1 run");
  expect(plural(2000, "match", "matches")).toBe("2,000 matches");
});
