import { describe, expect, test } from "bun:test";
import { createPresence, judgeWriter, type Signs } from "../src/run/presence.ts";

const SECOND = 1000;
const HOUR = 3600 * SECOND;

describe("judgeWriter", () => {
  /** `signs` in seconds before now. */
  const f = (signs: { [Name in keyof Signs]?: Signs[Name] }, want: string) => {
    const now = 1e9;
    const at = (ago: number | null | undefined) =>
      ago === null || ago === undefined ? null : now - ago * SECOND;
    const judgement = judgeWriter(
      {
        connected: signs.connected ?? false,
        disconnectedAt: at(signs.disconnectedAt),
        lastContact: now - (signs.lastContact ?? 0) * SECOND,
        goneSince: at(signs.goneSince),
        awaitedSince: at(signs.awaitedSince),
      },
      now,
    );
    test(`${JSON.stringify(signs)} → ${want}`, () =>
      expect(judgement.state).toBe(want as typeof judgement.state));
  };

  // Connected: silence is not death.
  f({ connected: true, lastContact: 0 }, "alive");
  f({ connected: true, lastContact: 14 }, "alive");
  f({ connected: true, lastContact: 15 }, "contact-lost");
  f({ connected: true, lastContact: 23 * 3600 }, "contact-lost");
  f({ connected: true, lastContact: 24 * 3600 }, "vanished");

  // The connection ended soon after a sign of life: a dead process, unless it comes back.
  f({ disconnectedAt: 0, lastContact: 0 }, "alive");
  f({ disconnectedAt: 9, lastContact: 9 }, "alive");
  f({ disconnectedAt: 10, lastContact: 10 }, "vanished");
  f({ disconnectedAt: 10, lastContact: 24 }, "vanished");
  // A batch came after the end: the process lives, and its heartbeat will be back.
  f({ disconnectedAt: 30, lastContact: 2 }, "alive");
  f({ disconnectedAt: 30, lastContact: 10 }, "vanished");

  // The connection ended long after the last sign of life: a dead network.
  f({ disconnectedAt: 10, lastContact: 25 }, "contact-lost");
  f({ disconnectedAt: 1, lastContact: 23 * 3600 }, "contact-lost");
  f({ disconnectedAt: 3600, lastContact: 24 * 3600 }, "vanished");

  // Never had a heartbeat: plain HTTP.
  f({ lastContact: 60 }, "alive");
  f({ lastContact: 23 * 3600 }, "alive");
  f({ lastContact: 24 * 3600 }, "vanished");

  // The process is gone from this machine: no need to wait, but for its last words.
  f({ connected: true, goneSince: 0 }, "alive");
  f({ connected: true, goneSince: 2, lastContact: 2 }, "alive");
  f({ connected: true, goneSince: 3, lastContact: 3 }, "vanished");
  f({ goneSince: 3, lastContact: 100 }, "vanished");

  // After a restart everybody has a minute to come back.
  f({ awaitedSince: 59, lastContact: 59 }, "alive");
  f({ awaitedSince: 60, lastContact: 60 }, "vanished");
  f({ awaitedSince: 10, goneSince: 3, lastContact: 10 }, "vanished");
});

describe("presence", () => {
  const process = { pid: 100, boot: "this-boot" };
  const remote = { pid: 100, boot: "another-boot" };
  const silent = { stop: () => {} };

  function setUp() {
    const clock = { now: 1e12, alive: new Set([100]) };
    const presence = createPresence({
      now: () => clock.now,
      boot: "this-boot",
      isProcessAlive: (pid) => clock.alive.has(pid),
    });
    return { presence, clock };
  }

  test("a writer whose connection ended has 10 seconds to come back", () => {
    const { presence, clock } = setUp();
    presence.join("1", "a", remote);
    const disconnect = presence.connect("1", "a", silent);
    clock.now += HOUR;
    presence.contact("1", "a");
    disconnect();
    clock.now += 9 * SECOND;
    expect(presence.review()).toEqual([]);
    const again = presence.connect("1", "a", silent);
    clock.now += 12 * SECOND;
    expect(presence.review()).toEqual([]);
    again();
    clock.now += 10 * SECOND;
    expect(presence.review()).toMatchObject([{ run: "1", client: "a", at: 1e12 + HOUR + 21 * SECOND }]);
  });

  test("the end of one of two connections of a writer means nothing", () => {
    const { presence, clock } = setUp();
    presence.join("1", "a", remote);
    presence.connect("1", "a", silent);
    const second = presence.connect("1", "a", silent);
    second();
    second();
    clock.now += 14 * SECOND;
    expect(presence.review()).toEqual([]);
    expect(presence.isConnected("1", "a")).toBe(true);
  });

  test("a cut network is contact lost, for a day", () => {
    const { presence, clock } = setUp();
    presence.join("1", "a", remote);
    const disconnect = presence.connect("1", "a", silent);
    clock.now += 20 * SECOND;
    expect(presence.silence("1")).toBe(20);
    clock.now += 15 * 60 * SECOND;
    disconnect();
    clock.now += HOUR;
    expect(presence.review()).toEqual([]);
    expect(presence.silence("1")).toBe(20 + 900 + 3600);
    clock.now += 23 * HOUR;
    expect(presence.review()).toMatchObject([{ client: "a", reason: "No contact for 24 hours." }]);
  });

  test("an acknowledged ping is contact", () => {
    const { presence, clock } = setUp();
    presence.join("1", "a", remote);
    const disconnect = presence.connect("1", "a", silent);
    for (let i = 0; i < 100; i++) {
      clock.now += 5 * SECOND;
      presence.contact("1", "a");
    }
    expect(presence.silence("1")).toBeNull();
    disconnect();
    clock.now += 10 * SECOND;
    expect(presence.review()).toHaveLength(1);
  });

  test("a process of this machine that is gone is noticed, whatever its connection says", () => {
    const { presence, clock } = setUp();
    presence.join("1", "a", process);
    presence.connect("1", "a", silent);
    presence.join("1", "b", remote);
    presence.connect("1", "b", silent);
    clock.alive.clear();
    expect(presence.review()).toEqual([]);
    clock.now += 3 * SECOND;
    expect(presence.review().map(({ client }) => client)).toEqual(["a"]);
  });

  test("a pid that was never seen here belongs to a container, and says nothing", () => {
    const { presence, clock } = setUp();
    clock.alive.clear();
    presence.join("1", "a", process);
    presence.connect("1", "a", silent);
    clock.now += 10 * SECOND;
    expect(presence.review()).toEqual([]);
  });

  test("after a restart a writer that held a heartbeat has a minute, one that never had has a day", () => {
    const { presence, clock } = setUp();
    presence.join("1", "a", remote, true);
    presence.join("2", "http", { pid: null, boot: null }, true);
    presence.join("3", "back", remote, true);
    clock.now += 59 * SECOND;
    expect(presence.review()).toEqual([]);
    presence.connect("3", "back", silent);
    clock.now += SECOND;
    expect(presence.review().map(({ run }) => run)).toEqual(["1"]);
    clock.now += 24 * HOUR;
    expect(presence.review().map(({ run }) => run)).toEqual(["1", "2", "3"]);
  });

  test("a run that nobody writes to ends after a day", () => {
    const { presence, clock } = setUp();
    presence.watch("1");
    clock.now += 24 * HOUR - 1;
    expect(presence.review()).toEqual([]);
    clock.now += 1;
    expect(presence.review()).toMatchObject([{ run: "1", client: null }]);
  });

  test("contact from a writer taken for dead asks for its run to be reopened", () => {
    const { presence } = setUp();
    presence.join("1", "a", remote);
    presence.join("1", "b", remote);
    expect(presence.contact("1", "a")).toBe(false);
    presence.leave("1", "a", true);
    expect(presence.contact("1", "a")).toBe(true);
    expect(presence.contact("1", "b")).toBe(false);
    presence.end("1", true);
    expect(presence.contact("1", "b")).toBe(true);
    presence.end("1", false);
    expect(presence.contact("1", "b")).toBe(false);
  });

  test("who was taken for dead with its run is still to be reopened when another has reopened it", () => {
    const { presence } = setUp();
    presence.join("1", "a", remote);
    presence.join("1", "b", remote);
    presence.leave("1", "a", true);
    presence.leave("1", "b", true);
    presence.end("1", true);
    expect(presence.contact("1", "a")).toBe(true);
    presence.join("1", "a", remote);
    expect(presence.lost("1")).toEqual(["b"]);
    expect(presence.contact("1", "a")).toBe(false);
    expect(presence.contact("1", "b")).toBe(true);
    presence.join("1", "b", remote);
    expect(presence.contact("1", "b")).toBe(false);
    expect(presence.writers("1")).toEqual(["a", "b"]);
  });

  test("a request to stop reaches every connection of the run", () => {
    const { presence } = setUp();
    const heard: string[] = [];
    presence.join("1", "a", remote);
    presence.join("1", "b", remote);
    presence.join("2", "c", remote);
    for (const [run, client] of [
      ["1", "a"],
      ["1", "b"],
      ["2", "c"],
    ] as const)
      presence.connect(run, client, { stop: ({ reason }) => heard.push(`${client} ${reason}`) });
    expect(presence.stop("1", { force: false, reason: "enough" })).toBe(2);
    expect(heard).toEqual(["a enough", "b enough"]);
  });

  test("one writer cannot hold connections without end", () => {
    const { presence } = setUp();
    presence.join("1", "a", remote);
    for (let i = 0; i < 4; i++) presence.connect("1", "a", silent);
    expect(() => presence.connect("1", "a", silent)).toThrow("already holds 4 heartbeats");
  });
});
