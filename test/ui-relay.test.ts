import { describe, expect, test } from "bun:test";
import { jsx } from "hono/jsx";
import { RelayDestinations } from "../src/ui/components/relay-list.tsx";
import { SourceTable } from "../src/ui/components/source-table.tsx";
import { Layout, pageIn } from "../src/ui/pages/layout.tsx";
import { GIVEN_UP, REMOVED } from "../src/relay/reasons.ts";
import type { Relay, RelayDrop } from "../src/relay/schema.ts";
import type { Source, SourceToken } from "../src/source/schema.ts";
import {
  backlogWords,
  contentWords,
  dropRange,
  historyWords,
  kindWords,
  rateWords,
  relayBanner,
  relayWords,
  streamWords,
} from "../src/ui/relay-view.ts";
import { skewWords, tokenState, voiceOf, voiceWords } from "../src/ui/source-view.ts";

const now = Date.parse("2026-11-23T20:00:00.000Z");
const ago = (ms: number) => new Date(now - ms).toISOString();
const HOSTILE = `<img src=x onerror=alert(1)>"'`;

const relay = (more: Partial<Relay> = {}): Relay => ({
  name: "lab",
  kind: "platform",
  url: "https://lab.example/",
  from: "history",
  created: ago(1000),
  state: "idle",
  error: null,
  notice: null,
  attempts: 0,
  next_try_at: null,
  epoch: 1,
  acked: 7,
  acked_at: ago(1000),
  backlog: { entries: 0, bytes: 0, oldest: null },
  rate: null,
  history: null,
  content: { files: 0, bytes: 0, error: null },
  dead_letters: 0,
  dropped: { records: 0, bytes: 0 },
  ...more,
});

const error = { message: "It refuses the token.", hint: "Ask its admin.", at: ago(0) };

const drop = (more: Partial<RelayDrop> = {}): RelayDrop => ({
  id: 1,
  destination: "lab",
  stream: "device:0123456789abcdef",
  kind: "sample.appended",
  first_seq: 5,
  last_seq: 9,
  first_time: null,
  last_time: null,
  records: 3,
  bytes: 2048,
  reason: "The disk is full.",
  at: ago(60_000),
  ...more,
});

describe("a destination's state in words", () => {
  const cases: [Partial<Relay>, string, string, string | null][] = [
    [{ state: "idle" }, "good", "Up to date", null],
    [{ state: "starting" }, "idle", "Connecting", null],
    [{ state: "sending" }, "busy", "Sending", null],
    [{ state: "history" }, "busy", "Catching up with history", null],
    [
      { state: "waiting", attempts: 7, next_try_at: ago(-12_400), error },
      "warn",
      "Waiting to try again",
      "Next attempt in 13 s, after 7 that failed. Everything is kept for it meanwhile.",
    ],
    [
      { state: "waiting", attempts: 1, next_try_at: ago(5), error },
      "warn",
      "Waiting to try again",
      "Next attempt now. Everything is kept for it meanwhile.",
    ],
    [
      { state: "paused", error, next_try_at: ago(-150_000) },
      "bad",
      "Paused",
      "Everything is kept for it meanwhile; it is looked at again in 2 min 30 s.",
    ],
    [
      { state: "in-use", error: null },
      "bad",
      "In use elsewhere",
      "Everything is kept for it meanwhile; it is looked at again every few minutes.",
    ],
  ];
  for (const [more, tone, word, next] of cases)
    test(`${more.state}${more.attempts === 1 ? ", the first time" : ""}`, () => {
      const words = relayWords(relay(more), now);
      expect(words).toMatchObject({ tone, word, next });
      expect(words).toMatchObject({ problem: more.error?.message ?? null, advice: more.error?.hint ?? null });
    });
});

test("numbers of a destination; what is not known is said to be nothing by none of them", () => {
  expect(backlogWords(relay())).toBeNull();
  expect(backlogWords(relay({ backlog: { entries: 1, bytes: null, oldest: null } }))).toBe("1 entry");
  expect(backlogWords(relay({ backlog: { entries: 2345, bytes: 3 << 20, oldest: null } }))).toBe(
    "2,345 entries, 3 MiB",
  );
  expect(rateWords(relay())).toBeNull();
  expect(rateWords(relay({ rate: { entries: 0.25, bytes: 1234 } }))).toBe("0.3 entries/s, 1.23 kB/s");
  expect(rateWords(relay({ rate: { entries: 1, bytes: 0 } }))).toBe("1 entry/s, 0 B/s");
  expect(contentWords(relay({ content: null }))).toBeNull();
  expect(contentWords(relay())).toBe("none");
  expect(contentWords(relay({ content: { files: 1, bytes: 2048, error: null } }))).toBe("1 file, 2 KiB");
  expect(historyWords(relay())).toBeNull();
  expect(historyWords(relay({ history: { done: 0, total: null } }))?.share).toBeNull();
  expect(historyWords(relay({ history: { done: 12, total: 40 } }))).toEqual({
    text: "12 of 40 parts of what was kept before",
    share: 0.3,
  });
});

test("an entry is told by what it holds and whose it is", () => {
  expect(kindWords("metric.appended")).toBe("metrics");
  expect(kindWords("from.tomorrow")).toBe("from.tomorrow");
  expect(streamWords("483920175526711").href).toBe("/runs/483920175526711");
  expect(streamWords("device:0123456789abcdef").href).toBe("/devices/0123456789abcdef");
  for (const none of ["", "artifact:", "other:thing"]) expect(streamWords(none).href).toBeNull();
});

test("the range of a drop, as far as it is known", () => {
  expect(dropRange(drop())).toBe("entries 5 to 9");
  expect(dropRange(drop({ last_seq: 5 }))).toBe("entry 5");
  expect(dropRange(drop({ first_seq: null, last_seq: null }))).toBe("—");
  const time = drop({ first_seq: null, last_seq: null, first_time: ago(0), last_time: ago(0) });
  expect(dropRange(time)).toMatch(/^2026-11-\d\d \d\d:\d\d:\d\d$/);
  expect(dropRange({ ...time, last_time: ago(-3_600_000) })).toContain(" to ");
});

describe("the line on every page", () => {
  const banner = (relays: Relay[], drops: RelayDrop[] = []) => relayBanner({ relays, drops }, now)?.text;

  test("is there while a person is needed, and not otherwise", () => {
    expect(banner([])).toBeUndefined();
    expect(banner([relay(), relay({ state: "waiting", error })])).toBeUndefined();
    expect(banner([relay({ state: "paused", error })])).toBe(
      "The relay to lab is paused. It refuses the token.",
    );
    expect(banner([relay({ state: "in-use" })])).toBe("The relay to lab is paused.");
    const two = [relay({ state: "paused", error }), relay({ state: "paused", name: "b", error })];
    expect(banner(two)).toBe("Relays to lab, b are paused.");
  });

  test("speaks of drops while they go on", () => {
    expect(banner([], [drop()])).toBe("Records for lab are being dropped. The disk is full.");
    expect(banner([], [drop({ destination: null, reason: "No room" })])).toBe(
      "Records are being dropped. No room.",
    );
    expect(banner([], [drop({ at: ago(3_600_000) })])).toBeUndefined();
    for (const reason of [GIVEN_UP, REMOVED]) expect(banner([], [drop({ reason })])).toBeUndefined();
  });
});

const source = (more: Partial<Source> = {}): Source => ({
  id: "7".repeat(32),
  name: "gpu7",
  label: "gpu7",
  host: "gpu7.cluster",
  version: "0.2.0",
  first_seen: ago(1e9),
  last_seen: ago(20_000),
  skew: 0,
  epoch: 1,
  acked: 7,
  behind: 0,
  entries: 10,
  records: 100,
  bytes: 1000,
  runs: 1,
  devices: 1,
  pending: { files: 0, bytes: 0 },
  through: [],
  ...more,
});

test("a source is silent when it missed three greetings, and its clock is told where people would notice", () => {
  expect(voiceOf(source(), now)).toBe("heard");
  expect(voiceWords(source({ last_seen: ago(7_500_000) }), now)).toBe("Silent for 2 h 05 min");
  expect(skewWords(null)).toBeNull();
  expect(skewWords(-2000)).toBeNull();
  expect(skewWords(61_000)).toBe("Its clock is 1 min 01 s behind");
  expect(skewWords(-86_400_000 * 365)).toBe("Its clock is 365 d 00 h ahead");
});

test("what became of a token", () => {
  const token: SourceToken = { name: "a", created: ago(0), expires: null, revoked: null, used: null };
  expect(tokenState(token, now)).toBe("waiting");
  expect(tokenState({ ...token, used: ago(0) }, now)).toBe("used");
  expect(tokenState({ ...token, used: ago(0), expires: ago(0) }, now)).toBe("expired");
  expect(tokenState({ ...token, expires: ago(0), revoked: ago(0) }, now)).toBe("revoked");
});

/** Markup of ours, and none of theirs. */
function expectText(html: string): void {
  expect(html).not.toContain("<img");
  expect(html).toContain("&lt;img src=x onerror=alert(1)&gt;");
}

test("hostile words stay text: of destinations, drops, sources and tokens, and in the line on every page", async () => {
  const hostile = { message: HOSTILE, hint: HOSTILE, at: ago(0) };
  const list = {
    installation: { id: "0".repeat(32), epoch: 1 },
    relays: [relay({ name: HOSTILE, url: HOSTILE, state: "paused", error: hostile, dead_letters: 1 })],
    drops: [drop({ destination: HOSTILE, stream: HOSTILE, kind: HOSTILE, reason: HOSTILE })],
  };
  const letter = {
    id: 1,
    epoch: 1,
    seq: 1,
    kind: HOSTILE,
    stream: HOSTILE,
    records: 1,
    bytes: 1,
    type: HOSTILE,
  };
  const letters = new Map([
    [HOSTILE, { dead_letters: [{ ...letter, detail: HOSTILE, at: ago(0) }], next: null }],
  ]);
  expectText(String(RelayDestinations({ list, now, letters })));
  const tokens = [{ name: HOSTILE, created: ago(0), expires: null, revoked: null, used: null }];
  const sources = [source({ label: HOSTILE, host: HOSTILE, version: HOSTILE, through: [HOSTILE] })];
  expectText(String(SourceTable({ list: { sources, tokens }, now, origin: "https://here" })));
  const shell = { hasSources: true, hasRelays: true, banner: relayBanner(list, now) };
  const html = (text: string) => new Response(text);
  const page = await pageIn(async () => shell)(
    { html } as never,
    jsx(Layout, { title: "x", theme: "auto", script: "plain" }) as never,
  );
  const text = await page.text();
  expectText(text);
  expect(text).toContain('href="/sources"');
});
