import { describe, expect, test } from "bun:test";
import { configRows, MAX_CONFIG_ROWS } from "../src/ui/config-rows.ts";
import { countByGroup, listHref, listQuery, matchesView, parseListView } from "../src/ui/list-view.ts";
import { encodeBytes } from "../src/ui/log-text.ts";
import { grepOf, isFiltered, logsQuery, parseLogsView } from "../src/ui/logs-view.ts";
import { createFilter, groupMetrics, metricsQuery, parseMetricsView } from "../src/ui/metrics-view.ts";
import type { MetricSummary } from "../src/metric/schema.ts";
import type { Run } from "../src/run/schema.ts";

describe("a URL says what is seen", () => {
  const list = (query: string, want = query) =>
    test(`runs ${query}`, () => expect(listHref(parseListView(new URLSearchParams(query)))).toBe(`/${want}`));
  list("");
  list("?search=a%26b&project=x%2Fy&status=failed&sort=name&order=desc");
  list("?status=nonsense&sort=drop+table&order=up", "");
  list("?status=__proto__", "");

  const metrics = (query: string, want = query) =>
    test(`metrics ${query}`, () =>
      expect(metricsQuery(parseMetricsView(new URLSearchParams(query)))).toBe(want));
  metrics("");
  metrics("?filter=loss%7Cacc&x=relative&smooth=0.6&log=1&ranks=all&on=step&from=10&to=20");
  metrics("?smooth=7&on=step&from=20&to=10", "");
  metrics("?smooth=NaN&on=step&from=x&to=10", "");

  const logs = (query: string, want = query) =>
    test(`logs ${query}`, () => expect(logsQuery(parseLogsView(new URLSearchParams(query)))).toBe(want));
  logs("");
  logs("?level=ERROR&stream=stderr&rank=3&search=a.%2Bb&only=1&time=1");
  logs("?level=LOUD&stream=stdin&rank=-1", "");
});

test("the API is asked for statuses by name", () => {
  const view = parseListView(new URLSearchParams("status=active&project=p"));
  expect(listQuery(view, "123").toString()).toBe(
    "project=p&status=QUEUED%2CSTARTING%2CRUNNING%2CSTOPPING&after=123",
  );
});

test("filters count what they would show", () => {
  const counts = [
    { project: "a", status: "RUNNING", count: 2 },
    { project: "a", status: "QUEUED", count: 1 },
    { project: "b", status: "FAILED", count: 4 },
  ] as const;
  expect(countByGroup([...counts], "")).toEqual({ all: 7, active: 3, finished: 0, failed: 4, killed: 0 });
  expect(countByGroup([...counts], "b")).toEqual({ all: 4, active: 0, finished: 0, failed: 4, killed: 0 });
});

test("a run that changes leaves a view it no longer matches", () => {
  const view = parseListView(new URLSearchParams("status=active&project=p"));
  const run = { status: "RUNNING", project: "p" } as Run;
  expect(matchesView(run, view)).toBe(true);
  expect(matchesView({ ...run, status: "FINISHED" }, view)).toBe(false);
  expect(matchesView({ ...run, project: "q" }, view)).toBe(false);
});

test("metrics are grouped by what stands before the first slash, those without one first", () => {
  const names = ["train/loss", "loss", "train/a/b", "/odd", "val/loss", "acc"];
  const groups = groupMetrics(names.map((name) => ({ name }) as MetricSummary));
  expect(groups.map(({ name, metrics }) => [name, metrics.map((metric) => metric.name)])).toEqual([
    ["", ["loss", "/odd", "acc"]],
    ["train", ["train/loss", "train/a/b"]],
    ["val", ["val/loss"]],
  ]);
});

describe("a filter is a regular expression, or else text", () => {
  const f = (filter: string, name: string, want: boolean) =>
    test(`${filter} ~ ${name}`, () => expect(createFilter(filter)(name)).toBe(want));
  f("", "x", true);
  f("LOSS|acc", "val/loss", true);
  f("^loss$", "val/loss", false);
  f("lr(", "opt/LR(0)", true);
  f("lr(", "opt/lr", false);
});

describe("small letters find capitals", () => {
  const f = (search: string, want: string) =>
    test(search, () => expect(grepOf(parseLogsView(new URLSearchParams({ search })))).toBe(want));
  f("nan", "(?i)nan");
  f("NaN", "NaN");
  f("étage", "(?i)étage");
  f("Étage", "Étage");
});

test("a search alone leaves no line out", () => {
  const view = parseLogsView(new URLSearchParams("search=x"));
  expect(isFiltered(view)).toBe(false);
  expect(isFiltered({ ...view, only: true })).toBe(true);
});

describe("configRows", () => {
  const f = (config: object, want: [string, string][]) =>
    test(JSON.stringify(config), () =>
      expect(configRows(config).rows.map(({ path, value }) => [path.join("."), value])).toEqual(want),
    );
  f({}, []);
  f({ a: 1, b: { c: "x", d: { e: [1, "two", null] } }, f: {} }, [
    ["a", "1"],
    ["b.c", "x"],
    ["b.d.e", "[1, two, null]"],
    ["f", "{}"],
  ]);
  f({ list: [{ a: 1 }, [2]], none: null, yes: true, text: "" }, [
    ["list.0.a", "1"],
    ["list.1", "[2]"],
    ["none", "null"],
    ["yes", "true"],
    ["text", ""],
  ]);
  f({ seed: "12345678901234567890" }, [["seed", "12345678901234567890"]]);
  f(JSON.parse('{"__proto__": {"x": 1}}'), [["__proto__.x", "1"]]);

  test("ten thousand keys and a thousand levels", () => {
    const wide = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`k${i}`, i]));
    expect(configRows(wide)).toMatchObject({ left: 10_000 - MAX_CONFIG_ROWS });
    let deep: object = { end: 1 };
    for (let i = 0; i < 1000; i++) deep = { d: deep };
    const [row] = configRows(deep).rows;
    expect(row!.path.length).toBe(32);
    expect(row!.value).toContain('"end":1');
  });
});

test("a download has the bytes that were printed", () => {
  expect([...encodeBytes("é\udcff\udc80🚀")]).toEqual([0xc3, 0xa9, 0xff, 0x80, 0xf0, 0x9f, 0x9a, 0x80]);
});
