import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import {
  getCommand,
  modelQuery,
  modelsHref,
  openRowsQuery,
  parseModelsView,
  parseModelView,
  parseOpenRows,
  shellWord,
  usualMetrics,
} from "../src/ui/artifact-view.ts";
import { buildTree, foldersOf, treeRows, usuallyOpen } from "../src/ui/file-tree.ts";
import { boundText, parseTable, prettyJson, textKind } from "../src/ui/preview-text.ts";

const file = (path: string, size = 1) => ({ path, size, sha256: "0".repeat(64) });

describe("a tree of files", () => {
  const tree = buildTree(
    ["README.md", "data/a.csv", "data/b.csv", "net/1/w.bin", "net/x"].map((path) => file(path, 10)),
  );
  const shown = (open: string[], options = {}) =>
    treeRows(tree, new Set(open), options).rows.map((row) =>
      row.kind === "file"
        ? `${"  ".repeat(row.depth)}${row.name}`
        : `${"  ".repeat(row.depth)}${row.name}/ ${row.files}, ${row.size}`,
    );

  test("shows what is in open folders, with the sums of the closed ones", () => {
    expect(shown([])).toEqual(["README.md", "data/ 2, 20", "net/ 2, 20"]);
    expect(shown(["net"])).toEqual(["README.md", "data/ 2, 20", "net/ 2, 20", "  1/ 1, 10", "  x"]);
    expect(shown(["net/1"])).toEqual(["README.md", "data/ 2, 20", "net/ 2, 20"]);
  });

  test("gives no sums of a folder of which more may come", () => {
    expect(shown([], { hasMore: true })).toEqual(["README.md", "data/ 2, 20", "net/ undefined, undefined"]);
    expect(shown(["net"], { hasMore: true }).slice(3)).toEqual(["  1/ 1, 10", "  x"]);
  });

  test("is cut at its bound, and says so", () => {
    expect(treeRows(tree, new Set(["data"]), { limit: 3 })).toMatchObject({
      rows: { length: 3 },
      isCut: true,
    });
    expect(treeRows(tree, new Set(["data"]), { limit: 5 })).toMatchObject({
      rows: { length: 5 },
      isCut: false,
    });
  });

  test("of few files is open, of many only where a folder stands alone", () => {
    expect([...usuallyOpen(tree)]).toEqual(["data", "net", "net/1"]);
    expect([...usuallyOpen(tree, 2)]).toEqual([]);
    expect([...usuallyOpen(buildTree([file("a/b/c"), file("a/b/d/e"), file("a/b/f/g")]), 1)]).toEqual([
      "a",
      "a/b",
    ]);
  });

  test("has every file once, however its folders are called", () => {
    const name = fc.constantFrom("a", "a.b", "a-b", "__proto__", "b");
    const paths = fc.uniqueArray(
      fc.array(name, { minLength: 1, maxLength: 4 }).map((parts) => `${parts.join("/")}.f`),
    );
    fc.assert(
      fc.property(paths, (unordered) => {
        const ordered = unordered.toSorted();
        const open = new Set(ordered.flatMap(foldersOf));
        const files = treeRows(buildTree(ordered.map((path) => file(path))), open).rows.filter(
          ({ kind }) => kind === "file",
        );
        expect(files.map(({ path }) => path)).toEqual(ordered);
      }),
    );
  });
});

test("folders above a file", () => {
  expect(foldersOf("a/b/c.txt")).toEqual(["a", "a/b"]);
  expect(foldersOf("c.txt")).toEqual([]);
});

describe("JSON is set in lines, and nothing in it changes", () => {
  const cases: [string, string | undefined][] = [
    ['{"a":1,"b":[1,2]}', '{\n  "a": 1,\n  "b": [\n    1,\n    2\n  ]\n}'],
    ["[]", "[]"],
    ['{"a": { }, "b": [ ]}', '{\n  "a": {},\n  "b": []\n}'],
    ["12345678901234567890", "12345678901234567890"],
    ["1.0", "1.0"],
    ['{"a":1,"a":2}', '{\n  "a": 1,\n  "a": 2\n}'],
    [String.raw`"a, {\"b\": [1]}\\"`, String.raw`"a, {\"b\": [1]}\\"`],
    ["{a: 1}", undefined],
    ['{"a": 1', undefined],
    ["", undefined],
    [`${"[".repeat(300)}${"]".repeat(300)}`, undefined],
  ];
  test.each(cases)("%s", (text, expected) => expect(prettyJson(text)).toBe(expected!));

  test("any value means the same afterwards", () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(JSON.parse(prettyJson(text)!)).toEqual(JSON.parse(text));
      }),
    );
  });
});

describe("a table of text", () => {
  const rowsOf = (text: string, bounds = {}) => {
    const table = parseTable(text, bounds);
    return table && [table.head, ...table.rows];
  };
  const cases: [string, string[][] | undefined, object?][] = [
    [
      "a,b\n1,2\n",
      [
        ["a", "b"],
        ["1", "2"],
      ],
    ],
    [
      "a,b\r\n1,2\r\n",
      [
        ["a", "b"],
        ["1", "2"],
      ],
    ],
    [
      "a,b\n1,2",
      [
        ["a", "b"],
        ["1", "2"],
      ],
    ],
    ["\ufeffa,b", [["a", "b"]]],
    [
      'a,b\n"1,5","say ""hi"""\n',
      [
        ["a", "b"],
        ["1,5", 'say "hi"'],
      ],
    ],
    ['a\n"two\nlines"\n', [["a"], ["two\nlines"]]],
    [
      'a,b\n"open,2\n',
      [
        ["a", "b"],
        ['"open', "2"],
      ],
    ],
    [
      "a,b\n1,\n,2\n",
      [
        ["a", "b"],
        ["1", ""],
        ["", "2"],
      ],
    ],
    [
      "a,b\n1,",
      [
        ["a", "b"],
        ["1", ""],
      ],
    ],
    [
      "a,b\n\n1,2\n\n",
      [
        ["a", "b"],
        ["1", "2"],
      ],
    ],
    [
      "a\tb\n1\t2,3",
      [
        ["a", "b"],
        ["1", "2,3"],
      ],
      { delimiter: "\t" },
    ],
    [
      "a,b\n1,2\n3,",
      [
        ["a", "b"],
        ["1", "2"],
      ],
      { isCut: true },
    ],
    [
      "a,b\n1,2\n3,4\n",
      [
        ["a", "b"],
        ["1", "2"],
        ["3", "4"],
      ],
      { isCut: true },
    ],
    ["", undefined],
    ["\n\n", undefined],
    [
      'a,b\n"1"x,2\n',
      [
        ["a", "b"],
        ["1x", "2"],
      ],
    ],
  ];
  for (const [text, expected, bounds] of cases)
    test(JSON.stringify(text), () => expect(rowsOf(text, bounds)).toEqual(expected));

  test("is bounded in rows and columns, and says so", () => {
    const text = "a,b,c\n1,2,3\n4,5,6\n";
    expect(parseTable(text, { rows: 1 })).toEqual({
      head: ["a", "b", "c"],
      rows: [["1", "2", "3"]],
      hasMoreRows: true,
      hasMoreColumns: false,
    });
    expect(parseTable(text, { columns: 2 })).toEqual({
      head: ["a", "b"],
      rows: [
        ["1", "2"],
        ["4", "5"],
      ],
      hasMoreRows: false,
      hasMoreColumns: true,
    });
    expect(parseTable(text, { rows: 2 })).toMatchObject({ hasMoreRows: false });
    expect(parseTable(text, { isCut: true })).toMatchObject({ hasMoreRows: true });
  });

  test("ends, whatever the text", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('"', ",", "\n", "\r", "a") }),
        (text) => void parseTable(text),
      ),
    );
  });
});

test("a name says how its text is shown", () => {
  const kinds = ["a.json", "b/A.CSV", "x.tsv", "README", ".csv/x", "a.ipynb", "a.svg", "a.html"].map(
    textKind,
  );
  expect(kinds).toEqual(["json", "table", "table", "text", "text", "json", "text", "text"]);
});

test("a text is bounded in lines and in what a line holds", () => {
  expect(boundText("a\nb")).toEqual({ text: "a\nb", isCut: false });
  expect(boundText("x".repeat(9000))).toEqual({ text: `${"x".repeat(5000)}…`, isCut: true });
  expect(boundText("x\n".repeat(9000)).text.split("\n")).toHaveLength(5000);
});

test("a command to copy is one word a name, whatever is in it", () => {
  const command = (name: string, kind: "model" | "artifact" = "model") =>
    getCommand({ kind, name, version: "v3" });
  expect(command("digits")).toBe("binnacle model get digits:v3");
  expect(command("train data", "artifact")).toBe("binnacle artifact get 'train data:v3'");
  expect(command("it's $(rm)")).toBe(String.raw`binnacle model get 'it'\''s $(rm):v3'`);
  expect(command("-f")).toBe("binnacle model get -- -f:v3");
  fc.assert(
    fc.property(
      fc.string({ minLength: 1 }).filter((text) => !text.includes("\0")),
      (text) => {
        const { stdout } = Bun.spawnSync(["sh", "-c", `printf %s ${shellWord(text)}`]);
        expect(stdout.toString()).toBe(Buffer.from(text).toString());
      },
    ),
    { numRuns: 20 },
  );
});

test("addresses are read and written alike, and what makes no sense is left out", () => {
  const view = (query: string) => parseModelsView(new URLSearchParams(query));
  expect(view("")).toEqual({ kind: "model", search: "", source: "" });
  expect(view("kind=artifact&search=a b&source=gpu7")).toEqual({
    kind: "artifact",
    search: "a b",
    source: "gpu7",
  });
  expect(modelsHref(view("source=gpu7&kind=artifact"))).toBe("/models?kind=artifact&source=gpu7");
  expect(view("kind=nonsense")).toEqual({ kind: "model", search: "", source: "" });
  expect(modelsHref({ kind: "model" })).toBe("/models");
  expect(modelsHref({ kind: "artifact", search: "ä&b" }, 7)).toBe(
    "/models?kind=artifact&search=%C3%A4%26b&after=7",
  );
  const metrics = (query: string) => parseModelView(new URLSearchParams(query)).metrics;
  expect(metrics("")).toBeUndefined();
  expect(metrics("metric=")).toEqual([]);
  expect(metrics("metric=a%2Cb&metric=c&metric=c")).toEqual(["a,b", "c"]);
  for (const names of [undefined, [], ["a,b", "ü"]])
    expect(metrics(modelQuery({ metrics: names }))).toEqual(names!);
  const open = (query: string) => parseOpenRows(new URLSearchParams(query));
  expect(open("")).toBeUndefined();
  expect(open(openRowsQuery(new Set()))).toEqual([]);
  expect(open(openRowsQuery(new Set(["3.v2", "4.v1"])))).toEqual(["3.v2", "4.v1"]);
  expect(open("open=../x&open=3.v2")).toEqual(["3.v2"]);
});

test("metrics that people judge by come first", () => {
  expect(usualMetrics(["lr", "train/loss", "steps", "val/acc", "test_f1"])).toEqual([
    "val/acc",
    "test_f1",
    "train/loss",
  ]);
  expect(usualMetrics(["lr"])).toEqual(["lr"]);
});
