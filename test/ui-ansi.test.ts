import { describe, expect, test } from "bun:test";
import { parseAnsi, type AnsiSpan } from "../src/ui/ansi.ts";

const E = "\x1b";

describe("parseAnsi", () => {
  const f = (line: string, want: AnsiSpan[]) =>
    test(JSON.stringify(line), () => expect(parseAnsi(line).spans).toEqual(want));

  f("", []);
  f("plain", [{ text: "plain" }]);
  f(`${E}[31mred${E}[0m plain`, [{ text: "red", color: "ansi-1" }, { text: " plain" }]);
  f(`${E}[mplain`, [{ text: "plain" }]);
  f(`${E}[1;4;94;103mx`, [
    { text: "x", bold: true, underline: true, color: "ansi-12", background: "ansi-11" },
  ]);
  f(`${E}[1ma${E}[22mb`, [{ text: "a", bold: true }, { text: "b" }]);
  f(`${E}[2;3;7;9mx${E}[23;27;29my`, [
    { text: "x", dim: true, italic: true, inverse: true, strike: true },
    { text: "y", dim: true },
  ]);
  f(`${E}[4:3mwavy${E}[4:0mnot`, [{ text: "wavy", underline: true }, { text: "not" }]);
  f(`${E}[38;5;1ma${E}[38;5;196mb${E}[48;5;244mc`, [
    { text: "a", color: "ansi-1" },
    { text: "b", color: "#ff0000" },
    { text: "c", color: "#ff0000", background: "#808080" },
  ]);
  f(`${E}[38;2;1;2;3ma${E}[39mb`, [{ text: "a", color: "#010203" }, { text: "b" }]);
  f(`${E}[38:2::10:20:30ma${E}[38:5:16mb`, [
    { text: "a", color: "#0a141e" },
    { text: "b", color: "#000000" },
  ]);
  // Colours that are none leave the style as it was.
  f(`${E}[31;38;2;256;0;0mx`, [{ text: "x", color: "ansi-1" }]);
  f(`${E}[38;5;-1mx`, [{ text: "x" }]);
  f(`${E}[38mx`, [{ text: "x" }]);

  // Sequences that are no colours go; the text around them stays.
  f(`a${E}[2Kb${E}[1;1Hc${E}[?25ld${E}7e${E}(Bf${E}cg`, [{ text: "abcdefg" }]);
  f(`${E}]8;;javascript:alert(1)${E}\\link${E}]8;;${E}\\`, [{ text: "link" }]);
  f(`${E}]0;title\x07text`, [{ text: "text" }]);
  f(`${E}]52;c;ZXZpbA==\x07text`, [{ text: "text" }]);
  f(`${E}Pq#0~${E}\\text${E}_apc${E}\\.${E}^pm${E}\\.${E}Xsos${E}\\.`, [{ text: "text..." }]);
  f("\x9b31mred\x9d8;;x\x9ctext", [{ text: "redtext", color: "ansi-1" }]);
  // Without its end a sequence is none, and nothing behind it is swallowed.
  f(`a${E}]0;title`, [{ text: "a0;title" }]);
  f(`a${E}[31`, [{ text: "a" }]);
  f(`a${E}`, [{ text: "a" }]);
  f(`${E}[31\x01x`, [{ text: "\u2401x" }]);

  // What has no glyph is shown by one.
  f("a\tb\x00c\rd\x08e\x7ff\x07", [{ text: "a\tb\u2400c\u240dd\u2408e\u2421f" }]);
  f("two\nlines", [{ text: "two\u240alines" }]);
  f("bytes \udcff\udc80 end", [{ text: "bytes \\xff\\x80 end" }]);
  f("\ud83d\ude80 \ud83d \ude80", [{ text: "\ud83d\ude80 \ufffd \ufffd" }]);
  f("<script>alert(1)</script>", [{ text: "<script>alert(1)</script>" }]);
});

test("a line that is too long is cut, and says by how much", () => {
  expect(parseAnsi("x".repeat(50), 20)).toEqual({ spans: [{ text: "x".repeat(20) }], left: 30 });
});

test("a surrogate pair is not cut in two", () => {
  expect(parseAnsi("\ud83d\ude80\ud83d\ude80", 1)).toEqual({ spans: [{ text: "\ud83d\ude80" }], left: 2 });
});

test("a megabyte of anything takes linear time", () => {
  const worst = [
    `${E}]`, // strings that never end
    `${E}P`,
    `${E}[31m${E}[0m`,
    `${E}[`,
    `${E}[1;2;3;4;5;6;7;8`,
    `${E}]0;\x07`,
    `${E}(`,
    "\x9d",
    "\udc80",
  ];
  for (const piece of worst) {
    const line = piece.repeat(1_000_000 / piece.length);
    const start = performance.now();
    const { spans } = parseAnsi(line);
    expect(performance.now() - start).toBeLessThan(1500);
    expect(spans.length).toBeLessThanOrEqual(1001);
  }
});
