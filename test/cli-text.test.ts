import { describe, expect, test } from "bun:test";
import { errorLine } from "../src/cli/error.ts";
import { fedmlArguments, programName } from "../src/cli/fedml-link.ts";
import { ruledTable } from "../src/cli/fedml-output.ts";
import { sparkline } from "../src/cli/sparkline.ts";
import { outputBytes, terminalText } from "../src/cli/terminal.ts";
import { cell, duration, shortValue } from "../src/cli/text.ts";
import { pointInTime, wholeNumber } from "../src/cli/values.ts";
import { CollectorError } from "../src/error.ts";

test("an error and its hint are two sentences", () => {
  const line = (message: string) =>
    errorLine(new CollectorError("invalid", message, { hint: "Do this." }), "binnacle");
  expect(line("name: must not be empty")).toBe("binnacle: name: must not be empty. Do this.");
  expect(line("It is taken.")).toBe("binnacle: It is taken. Do this.");
});

describe("text for a terminal", () => {
  const cases: [name: string, given: string, shown: string][] = [
    ["plain text, tabs and letters stay", "a\tb ü 🧭\n", "a\tb ü 🧭\n"],
    [
      "colours stay",
      "\u001b[1;31mred\u001b[0m \u001b[38:5:208mx\u001b[m",
      "\u001b[1;31mred\u001b[0m \u001b[38:5:208mx\u001b[m",
    ],
    ["cursor moves and clearing go", "a\u001b[2J\u001b[1;1Hb\u001b[?25lc", "abc"],
    ["the window's name goes", "a\u001b]0;title\u0007b\u001b]2;t\u001b\\c", "abc"],
    ["the clipboard stays as it is", "a\u001b]52;c;aGk=\u0007b", "ab"],
    ["an unfinished sequence goes", "a\u001b]0;title", "a"],
    ["device queries go", "a\u001bP$q\u001b\\b\u001b[6nc\u001bZd", "abcd"],
    ["single controls go", "a\u0000\u0007\b\u000b\u007f\u0085\u009b31mb", "a31mb"],
    ["a lone escape goes", "a\u001b", "a"],
    ["bytes that are no UTF-8 become a mark", "a\udcffb", "a\ufffdb"],
  ];
  for (const [name, given, shown] of cases) test(name, () => expect(terminalText(given)).toBe(shown));
});

test("bytes that were no UTF-8 come back as they were, beside characters beyond U+FFFF", () => {
  expect(Buffer.from(outputBytes("a\udc80🧭\udcff\udcc3é"))).toEqual(
    Buffer.concat([
      Buffer.from("a"),
      Buffer.from([0x80]),
      Buffer.from("🧭"),
      Buffer.from([0xff, 0xc3]),
      Buffer.from("é"),
    ]),
  );
  const all = Buffer.from(Array.from({ length: 128 }, (_, index) => 128 + index));
  const escaped = [...all].map((byte) => String.fromCharCode(0xdc00 + byte)).join("");
  expect(Buffer.from(outputBytes(escaped))).toEqual(all);
});

describe("FedML's words", () => {
  const cases: [given: string, ours: string][] = [
    ["run logs -rid 12 -v release", "run logs -rid 12"],
    ["run list -k key -pf falcon -v dev", "run list"],
    ["run list --api_key=key --platform=falcon", "run list"],
    ["run logs -rid 12 -pn 2 -ps 10 -a False", "run logs -rid 12 -pn 2 -ps 10"],
    ["run logs -rid 12 -a True", "run logs -rid 12 -a"],
    ["run logs -rid 12 -a", "run logs -rid 12 -a"],
    ["launch job.yaml -g group -c cluster -lp 127.0.0.1 -lpp 80", "launch job.yaml"],
    ["launch -- python3 x.py -k 3 -v", "launch -- python3 x.py -k 3 -v"],
    ["version", "version"],
    ["--version", "--version"],
  ];
  for (const [given, ours] of cases)
    test(`${given} → ${ours}`, () => expect(fedmlArguments(given.split(" ")).join(" ")).toBe(ours));

  test("a link is known by its name alone", () => {
    expect(
      ["fedml", "/usr/bin/fedml", "./fedml", "binnacle", "bun", "/opt/fedml/binnacle"].map((name) =>
        programName(name),
      ),
    ).toEqual(["fedml", "fedml", "fedml", "binnacle", "binnacle", "binnacle"]);
  });

  test("tables are centred as there: an odd space goes left of even text, right of odd text", () => {
    expect(ruledTable(["Run ID", "S"], [["1234567", "ab"]])).toBe(
      [
        "+---------+----+",
        "|  Run ID | S  |",
        "+---------+----+",
        "| 1234567 | ab |",
        "+---------+----+",
        "",
      ].join("\n"),
    );
  });
});

test("values of flags", () => {
  const now = Date.UTC(2026, 0, 31);
  expect(pointInTime("90s", "--since", now)).toBe(now - 90_000);
  expect(pointInTime("1.5h", "--since", now)).toBe(now - 5_400_000);
  expect(pointInTime("2026-01-30T00:00:00Z", "--since", now)).toBe(now - 86_400_000);
  expect(pointInTime("2026-01-30", "--since")).toBe(new Date(2026, 0, 30).getTime());
  expect(pointInTime("2026-01-30 12:30", "--since")).toBe(new Date(2026, 0, 30, 12, 30).getTime());
  expect(pointInTime(undefined, "--since")).toBeUndefined();
  for (const bad of ["", "5", "5 days", "later"])
    expect(() => pointInTime(bad, "--since")).toThrow("--since wants");
  expect(wholeNumber("12", "-n")).toBe(12);
  for (const bad of ["", "-1", "1.5", "1e3", "99999999999999999999"])
    expect(() => wholeNumber(bad, "-n")).toThrow("-n wants");
});

test("text for the eye", () => {
  expect(duration("2026-01-01T00:00:00.000Z", "2026-01-01T00:00:42.400Z")).toBe("42s");
  expect(duration("2026-01-01T00:00:00.000Z", "2026-01-01T00:03:05.000Z")).toBe("3m 5s");
  expect(duration("2026-01-01T00:00:00.000Z", "2026-01-03T00:03:05.000Z")).toBe("48h 3m");
  expect([
    shortValue(0.123456789),
    shortValue(1e-7),
    shortValue(12345678),
    shortValue(Number.MAX_SAFE_INTEGER),
    shortValue("NaN"),
    shortValue(null),
  ]).toEqual(["0.123457", "1e-7", "12345678", "9007199254740991", "NaN", "-"]);
});

test("a text metric takes one line of a table", () => {
  expect(cell("a\nb\tc")).toBe("a b c");
  expect(cell("x".repeat(1000))).toHaveLength(40);
  expect(cell(0.5)).toBe("0.5");
});

test("a sparkline keeps to its width and shows what is no number", () => {
  expect(sparkline({ mean: [0, 1, 2, 3, 4, 5, 6, 7], last: [] }, 80)).toBe("▁▂▃▄▅▆▇█");
  expect(sparkline({ mean: [0, null, 1], last: [0, "NaN", 1] }, 80)).toBe("▁!█");
  expect(sparkline({ mean: [5, 5], last: [5, 5] }, 80)).toBe("▅▅");
  expect(sparkline({ mean: Array(1000).fill(1), last: [] }, 20)).toHaveLength(20);
});
