import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { collapse } from "../src/launch/collapse.ts";
import { createLineAssembler, MAX_LINE_BYTES } from "../src/launch/lines.ts";
import { decodeLossless, encodeLossless } from "../src/launch/utf8.ts";

/** Lines and what was left open, with the input cut into pieces of `size` bytes. */
function assemble(input: string | Uint8Array, size = Infinity) {
  const bytes = typeof input === "string" ? Buffer.from(input) : input;
  const assembler = createLineAssembler();
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += size)
    lines.push(...assembler.feed(bytes.subarray(at, at + size)));
  lines.push(...assembler.settle(), ...assembler.settle());
  return { lines, open: assembler.open, end: assembler.end() };
}

describe("lines", () => {
  const cases: [name: string, input: string, lines: string[], open?: string | null][] = [
    ["ends", "a\nb\n", ["a", "b"]],
    ["empty and blank ones are kept", "\n \n\t\n", ["", " ", "\t"]],
    ["CRLF is a line's end", "a\r\nb\r\n", ["a", "b"]],
    ["and with a stray return", "a\r\r\n", ["a"]],
    ["what has no end is open", "a\nb", ["a"], "b"],
    ["a bar collapses to its last state", "\r 10%\r 20%\r100%\n", ["100%"]],
    ["text before a bar is rewritten too", "start\r50%\n", ["50%"]],
    ["a bar that returns after each state", "10%\r20%\r30%\r\n", ["30%"]],
    ["a bar that was erased leaves what follows it", "\r100%|###|\r          \rdone\n", ["done"]],
    ["erased by an escape sequence", "50%\r\u001b[Kdone\r\u001b[2K\n", ["\u001b[Kdone"]],
    ["an unfinished bar is open with its last state", "\r 10%\r 20%", [], " 20%"],
    ["also when it has just returned", "10%\r20%\r", [], "20%"],
    ["colours stay", "\u001b[31mred\u001b[0m\n", ["\u001b[31mred\u001b[0m"]],
    ["NUL and BOM stay", "\ufeffa\u0000b\n", ["\ufeffa\u0000b"]],
    ["other line separators are none", "a\u2028b\u0085c\vd\fe\n", ["a\u2028b\u0085c\vd\fe"]],
  ];
  for (const [name, input, lines, open = null] of cases)
    for (const size of [1, 2, 3, 7, Infinity])
      test(`${name}, in pieces of ${size}`, () => {
        expect(assemble(input, size)).toEqual({ lines, open, end: open === null ? [] : [open] });
      });

  test("a character cut in two is whole again, and not shown in halves meanwhile", () => {
    const bytes = Buffer.from("é😀\n");
    for (const size of [1, 2, 3]) expect(assemble(bytes, size).lines).toEqual(["é😀"]);
    expect(assemble(bytes.subarray(0, 4)).open).toBe("é");
    expect(assemble(bytes.subarray(0, 4)).end).toEqual(["é\udcf0\udc9f"]);
  });

  test("a line without end is cut into pieces, between characters", () => {
    const text = "é".repeat(MAX_LINE_BYTES);
    for (const size of [65_536, 65_537, Infinity]) {
      const { lines, end } = assemble(text, size);
      expect([...lines, ...end].join("")).toBe(text);
      for (const line of lines) expect(line.length).toBeLessThanOrEqual(MAX_LINE_BYTES);
    }
    const whole = assemble(`${"😀".repeat(MAX_LINE_BYTES)}\n`);
    expect(whole.lines.join("")).toBe("😀".repeat(MAX_LINE_BYTES));
    expect(whole.lines.every((line) => line.isWellFormed())).toBe(true);
  });

  test("a bar that never ends its line does not grow", () => {
    const assembler = createLineAssembler();
    for (let state = 0; state < 100_000; state++)
      expect(assembler.feed(Buffer.from(`\rstate ${state}`))).toEqual([]);
    expect(assembler.open).toBe("state 99999");
  });

  test("pieces make no difference", () => {
    const part = fc.constantFrom("a", "é", "😀", "\r", "\n", " ", "\u001b[K", "xyz", "\u001b[A", "\u001b[2A");
    fc.assert(
      fc.property(fc.array(part, { maxLength: 40 }), fc.integer({ min: 1, max: 9 }), (parts, size) => {
        expect(assemble(parts.join(""), size)).toEqual(assemble(parts.join("")));
      }),
      { numRuns: 2000 },
    );
  });

  /** What tqdm writes for a bar inside another: down a row, the inner bar, up again. */
  const inner = (state: string) => `\n\r${state}\u001b[A`;

  test("nested bars are a line each, not one an update", () => {
    let output = "";
    for (let epoch = 1; epoch <= 3; epoch++) {
      output += `\router ${epoch}/3`;
      for (let step = 1; step <= 50; step++) output += inner(`inner ${step}/50`);
    }
    output += `${inner("            ")}\router done\n`;
    for (const size of [1, 5, 64, Infinity])
      expect(assemble(`before\n${output}after\n`, size).lines).toEqual(["before", "outer done", "after"]);
  });

  test("an inner bar that stays is kept below the outer one", () => {
    const output = `\router 1${inner("inner 1")}${inner("inner 2")}\router 2\n\rinner 2\nafter\n`;
    for (const size of [1, 3, Infinity])
      expect(assemble(output, size).lines).toEqual(["outer 2", "inner 2", "after"]);
  });

  test("nested bars are shown live together, and are not final while the cursor comes back", () => {
    const assembler = createLineAssembler();
    const lines: string[] = [];
    for (let step = 1; step <= 100; step++) {
      lines.push(
        ...assembler.feed(Buffer.from(`\router ${step}${inner(`inner ${step}`)}`)),
        ...assembler.settle(),
      );
      expect(assembler.open).toBe(step === 1 ? "outer 1\ninner 1" : `outer ${step}\ninner ${step}`);
    }
    expect(lines).toEqual([]);
    expect(assembler.isSettling).toBe(false);
    expect(assembler.end()).toEqual(["outer 100", "inner 100"]);
  });

  test("what is printed above the bars comes out while they go on", () => {
    const assembler = createLineAssembler();
    const lines: string[] = [];
    const draw = (step: number) => `\router ${step}${inner(`inner ${step}`)}`;
    for (let step = 1; step <= 20; step++) {
      // tqdm.write: both bars erased, the line, both bars again.
      const output =
        step % 5 === 0 ? `${inner("       ")}\r       \rmessage ${step}\n${draw(step)}` : draw(step);
      lines.push(...assembler.feed(Buffer.from(output)), ...assembler.settle());
    }
    lines.push(...assembler.settle());
    expect(lines).toEqual(["message 5", "message 10", "message 15", "message 20"]);
    expect(assembler.end()).toEqual(["outer 20", "inner 20"]);
  });

  test("a bar that has ended is a line at once when the next one comes, or a moment later", () => {
    const assembler = createLineAssembler();
    expect(assembler.feed(Buffer.from("\r50%\r100%\n"))).toEqual([]);
    expect(assembler.feed(Buffer.from("next\n"))).toEqual(["100%", "next"]);
    expect(assembler.feed(Buffer.from("\r50%\r100%\n"))).toEqual([]);
    expect(assembler.open).toBe("100%");
    expect([...assembler.settle(), ...assembler.settle()]).toEqual(["100%"]);
    expect(assembler.open).toBeNull();
  });

  test("rows without end stay bounded", () => {
    const assembler = createLineAssembler();
    let count = 0;
    for (let step = 0; step < 5000; step++)
      count += assembler.feed(Buffer.from(`\r${step}\n\n\u001b[A`)).length;
    expect(count).toBeGreaterThan(4900);
    expect(assembler.end().length).toBeLessThan(70);
  });

  test("a movement beyond the top stays at the top", () => {
    const { lines, end } = assemble("plain\n\ra\nb\u001b[99999999999A\rc\n");
    expect([lines, end]).toEqual([["plain", "c"], ["b"]]);
  });

  test("what is written into a row from its beginning is written over what stood there", () => {
    expect(assemble("\ra\nb\u001b[A\rc\nover\n").lines).toEqual(["c", "over"]);
  });

  test("collapse keeps a single state as it is", () => {
    expect(collapse("  ")).toBe("  ");
    expect(collapse("")).toBe("");
  });
});

describe("bytes that are no UTF-8", () => {
  const cases: [bytes: number[], text: string][] = [
    [[0x61, 0xff, 0x62], "a\udcffb"],
    [[0xc3], "\udcc3"],
    [[0xc0, 0x80], "\udcc0\udc80"],
    [[0xed, 0xa0, 0x80], "\udced\udca0\udc80"],
    [[0xf4, 0x90, 0x80, 0x80], "\udcf4\udc90\udc80\udc80"],
    [[0xe2, 0x82, 0x41], "\udce2\udc82A"],
    [[0xe2, 0x82, 0xac, 0x80], "€\udc80"],
  ];
  for (const [bytes, text] of cases)
    test(`${bytes.map((byte) => byte.toString(16)).join(" ")} as Python's surrogateescape has it`, () => {
      expect(decodeLossless(Uint8Array.from(bytes))).toBe(text);
    });

  test("come back as they were", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(Buffer.from(encodeLossless(decodeLossless(bytes))).equals(bytes)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });
});
