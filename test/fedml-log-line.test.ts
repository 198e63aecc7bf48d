import { expect, test } from "bun:test";
import { parseFedmlLine, parseFedmlTime } from "../src/fedml/log-line.ts";

const at = (text: string) => Date.parse(text);
const T = at("2026-11-23T09:33:34Z");

const lines: [raw: string, parsed: ReturnType<typeof parseFedmlLine>][] = [
  [
    "[FedML-Client @device-id-17] [Mon, 23 Nov 2026 09:33:34.938608884] [INFO] [file.py:12:func] epoch 1\n",
    {
      time: T + 938.608884,
      level: "INFO",
      prefix: "[FedML-Client @device-id-17] [Mon, 23 Nov 2026 09:33:34.938608884] [INFO] [file.py:12:func] ",
      text: "epoch 1",
      writer: "FedML-Client @device-id-17",
      source: "file.py:12:func",
    },
  ],
  // Older clients: a rank in parentheses, no fraction, an offset
  [
    "[FedML-Server(0) @device-id-0] [Mon, 23 Nov 2026 09:33:34] [ERROR] [a b.py:1:<module>] Uncaught exception",
    {
      time: T,
      level: "ERROR",
      prefix: "[FedML-Server(0) @device-id-0] [Mon, 23 Nov 2026 09:33:34] [ERROR] [a b.py:1:<module>] ",
      text: "Uncaught exception",
      writer: "FedML-Server(0) @device-id-0",
      source: "a b.py:1:<module>",
    },
  ],
  [
    "[FedML-Client(0) @device-id-0] [Mon, 23 Nov 2026 01:33:34 -0800] [WARNING] [x.py:3:f] w\r\n",
    {
      time: T,
      level: "WARNING",
      prefix: "[FedML-Client(0) @device-id-0] [Mon, 23 Nov 2026 01:33:34 -0800] [WARNING] [x.py:3:f] ",
      text: "w",
      writer: "FedML-Client(0) @device-id-0",
      source: "x.py:3:f",
    },
  ],
  // Endpoints
  [
    "[FedML-Server @device-id-1716563514434392064 @replica-rank-2] [Tue, 1 Dec 2026 00:00:00.000000001] [DEBUG] [x.py:3:f] d",
    {
      time: at("2026-12-01T00:00:00Z") + 0.000001,
      level: "DEBUG",
      prefix:
        "[FedML-Server @device-id-1716563514434392064 @replica-rank-2] [Tue, 1 Dec 2026 00:00:00.000000001] [DEBUG] [x.py:3:f] ",
      text: "d",
      writer: "FedML-Server @device-id-1716563514434392064 @replica-rank-2",
      source: "x.py:3:f",
    },
  ],
  // A traceback has the first three brackets of the line before it
  [
    '[FedML-Client @device-id-0] [Mon, 23 Nov 2026 09:33:34.938608884] [ERROR]   File "train.py", line 3, in <module>\n',
    {
      time: T + 938.608884,
      level: "ERROR",
      prefix: "[FedML-Client @device-id-0] [Mon, 23 Nov 2026 09:33:34.938608884] [ERROR] ",
      text: '  File "train.py", line 3, in <module>',
      writer: "FedML-Client @device-id-0",
      source: undefined,
    },
  ],
  [
    "[FedML-Client @device-id-0] [Mon, 23 Nov 2026 09:33:34.9] [INFO] [1, 2, 3] is a list",
    {
      time: T + 900,
      level: "INFO",
      prefix: "[FedML-Client @device-id-0] [Mon, 23 Nov 2026 09:33:34.9] [INFO] ",
      text: "[1, 2, 3] is a list",
      writer: "FedML-Client @device-id-0",
      source: undefined,
    },
  ],
  // A level of the user's own, and a time in another language
  [
    "[FedML-Client @device-id-0] [lun., 23 nov. 2026 09:33:34.938608884] [SUCCESS] [x.py:3:f] ok",
    {
      time: T + 938.608884,
      prefix: "[FedML-Client @device-id-0] [lun., 23 nov. 2026 09:33:34.938608884] [SUCCESS] [x.py:3:f] ",
      text: "ok",
      writer: "FedML-Client @device-id-0",
      source: "x.py:3:f",
    },
  ],
  [
    "[FedML-Client @device-id-0] [whenever] [INFO] [x.py:3:f] ok",
    {
      level: "INFO",
      prefix: "[FedML-Client @device-id-0] [whenever] [INFO] [x.py:3:f] ",
      text: "ok",
      writer: "FedML-Client @device-id-0",
      source: "x.py:3:f",
    },
  ],
  // No line of FedML's
  [" Traceback (most recent call last):\n", { text: " Traceback (most recent call last):" }],
  ["The original log url is http://x/y", { text: "The original log url is http://x/y" }],
  ["[FedML-Client", { text: "[FedML-Client" }],
  ["\n", { text: "" }],
  ["", { text: "" }],
];
for (const [raw, parsed] of lines)
  test(`${JSON.stringify(raw.slice(0, 70))} is taken apart, and can be put together`, () => {
    const line = parseFedmlLine(raw);
    expect(line).toEqual(parsed);
    expect(`${line.prefix ?? ""}${line.text}`).toBe(raw.replace(/\r?\n$/, ""));
  });

const noTimes = [
  "",
  "Mon",
  "23 Nov 2026",
  "Mon, 23 Foo 2026 09:33:34",
  "Mon, 23 Nov 2026 09:33",
  "x".repeat(1000),
];
for (const text of noTimes)
  test(`${JSON.stringify(text.slice(0, 40))} is no time`, () => expect(parseFedmlTime(text)).toBeUndefined());

test("a line made to take long is taken apart in no time", () => {
  const started = performance.now();
  for (const raw of [
    `[FedML-${"]".repeat(500_000)}`,
    `[FedML-Client] [${" ".repeat(500_000)}`,
    `[FedML-Client] [t] [INFO] [${"a:1".repeat(200_000)}`,
    "[FedML-".repeat(100_000),
  ])
    expect(parseFedmlLine(raw).prefix?.length ?? 0).toBeLessThanOrEqual(1000);
  expect(performance.now() - started).toBeLessThan(500);
});
