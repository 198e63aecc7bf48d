import { describe, expect, test } from "bun:test";
import { MAX_HEIGHT, ScrollScale } from "../src/ui/scroll-scale.ts";
import {
  appendPoint,
  emptySeries,
  fromBuckets,
  hasSpread,
  marksOf,
  placeLate,
  placeOn,
  positive,
  smooth,
} from "../src/ui/series.ts";

test("buckets stand in the middle of their range, less the shift", () => {
  const series = fromBuckets(
    {
      run: "1",
      metric: "m",
      x: "time",
      rank: 0,
      count: 3,
      x0: [100, 200],
      x1: [150, 200],
      min: [1, null],
      max: [3, null],
      mean: [2, null],
      first: [1, "NaN"],
      last: [3, "NaN"],
      n: [2, 1],
      nan: [0, 1],
      inf: [0, 0],
      ninf: [0, 0],
    },
    100,
  );
  expect(series.x).toEqual([25, 100]);
  expect(series.end).toEqual({ x: 100, value: NaN });
  expect(hasSpread(series)).toBe(true);
  expect(marksOf(series)).toEqual([{ x: 100, kind: "NaN", count: 1 }]);
});

test("live points are appended in order; others are the collector's to sort in", () => {
  const series = emptySeries();
  expect(appendPoint(series, 1, 5)).toBe(true);
  expect(appendPoint(series, 1, NaN)).toBe(true);
  expect(appendPoint(series, 2, Infinity)).toBe(true);
  expect(appendPoint(series, 0, 1)).toBe(false);
  expect(appendPoint(series, Infinity, 1)).toBe(true);
  expect(series).toMatchObject({
    x: [1, 1, 2],
    mean: [5, null, null],
    nan: [0, 1, 0],
    inf: [0, 0, 1],
    count: 3,
  });
  expect(hasSpread(series)).toBe(false);
});

describe("smooth", () => {
  const f = (values: (number | null)[], weight: number, want: (number | null)[]) =>
    test(`${JSON.stringify(values)} ${weight}`, () => {
      const smoothed = smooth(values, weight);
      smoothed.forEach((value, i) => {
        if (want[i] === null) expect(value).toBeNull();
        else expect(value).toBeCloseTo(want[i]!, 9);
      });
    });
  f([1, 2, 3], 0, [1, 2, 3]);
  // Debiased: a constant stays what it is from the first value on.
  f([4, 4, 4], 0.9, [4, 4, 4]);
  f([0, 1], 0.5, [0, 2 / 3]);
  f([null, 1, null, 2], 0.5, [null, 1, null, 5 / 3]);
});

describe("a live point that may be in the buckets already", () => {
  const series = { ...emptySeries(), end: { x: 10, value: 3 } };
  const f = (x: number, value: number, want: string) =>
    test(`${x} ${value}`, () => expect(placeLate(series, x, value)).toBe(want as never));
  f(9, 1, "in");
  f(10, 3, "in");
  f(10, 4, "ask");
  f(11, 3, "after");
  test("none yet", () => expect(placeLate(emptySeries(), 0, 1)).toBe("after"));
});

test("a logarithmic axis leaves out zero and below", () => {
  expect(positive([1, 0, -1, null, 0.5])).toEqual([1, null, null, null, 0.5]);
});

describe("placeOn", () => {
  const live = { key: "loss", rank: 0, x: "epoch", n: 1, points: [] };
  const f = (axis: string, point: unknown[], want: [number, number] | undefined | null) =>
    test(`${axis} ${JSON.stringify(point)}`, () =>
      expect(placeOn(axis, live, point, 1000)).toEqual(want as never));
  f("step", [0, 7, 5000, 0.5], [7, 0.5]);
  f("time", [0, 7, 5000, 0.5], [5000, 0.5]);
  f("relative", [0, 7, 5000, 0.5], [4000, 0.5]);
  f("epoch", [0, 7, 5000, 0.5, 2], [2, 0.5]);
  f("epoch", [0, 7, 5000, 0.5, null], undefined);
  f("epoch", [0, 7, 5000, 0.5, "NaN"], undefined);
  f("lr", [0, 7, 5000, 0.5, 2], null);
  f("loss", [0, 7, 5000, 0.5], [0.5, 0.5]);
  f("step", [0, 7, 5000, "NaN"], [7, NaN]);
  f("step", [0, 7, 5000, "a word"], undefined);
});

describe("ScrollScale", () => {
  const scaled = (total: number, viewport = 500) => {
    const scale = new ScrollScale();
    scale.resize(total, viewport);
    return scale;
  };

  test("a short log scrolls as it is", () => {
    const scale = scaled(10_000);
    expect(scale.height).toBe(10_000);
    expect(scale.scrolled(1234)).toBe(1234);
    expect(scale.top).toBe(1234);
    expect(scale.goTo(1e9)).toBe(9500);
  });

  test("a million lines fit what a browser can hold, and both ends are reached", () => {
    const scale = scaled(20_000_000);
    expect(scale.height).toBe(MAX_HEIGHT);
    scale.goTo(scale.bottom);
    expect(scale.top).toBe(20_000_000 - 500);
    expect(scale.realTop).toBe(MAX_HEIGHT - 500);
    scale.scrolled(0);
    expect(scale.top).toBe(0);
  });

  test("a turn of the wheel moves by as many pixels as on a short log", () => {
    const scale = scaled(20_000_000);
    let real = scale.goTo(10_000_000);
    const before = scale.top;
    for (let i = 0; i < 10; i++) real = scale.scrolled(real + 100);
    expect(scale.top).toBe(before + 1000);
  });

  test("the wheel alone goes from one end to the other without a jump", () => {
    const scale = scaled(8_000_000);
    let real = scale.goTo(scale.bottom);
    let last = scale.top;
    for (let turns = 0; last > 0; turns++) {
      expect(turns).toBeLessThan(8_000_000 / 400);
      real = scale.scrolled(Math.max(0, real - 400));
      expect(last - scale.top).toBeLessThanOrEqual(1000);
      expect(scale.top).toBeLessThan(last);
      last = scale.top;
    }
  });

  test("new lines at the end do not move what is read", () => {
    const scale = scaled(20_000_000);
    scale.goTo(5_000_000);
    scale.resize(25_000_000, 500);
    expect(scale.top).toBe(5_000_000);
    const short = scaled(10_000);
    short.goTo(300);
    short.resize(12_000, 500);
    expect([short.top, short.realTop]).toEqual([300, 300]);
  });
});
