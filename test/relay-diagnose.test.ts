import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { createDiagnosis } from "../src/relay/diagnose.ts";
import type { DeliveryStatus } from "../src/relay/line.ts";
import { createRelays } from "../src/relay/relay.ts";
import { createTestCollector } from "./helpers/collector.ts";
import { startPlatform, until } from "./helpers/relay.ts";

setDefaultTimeout(60_000);

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

test("a platform that takes history and lies of what follows is told of once, and is not said to go on", async () => {
  const up = await startPlatform();
  closers.push(() => up.close());
  const token = await up.addSource("lab");
  const at = createTestCollector();
  closers.push(() => at.close());
  const told: string[] = [];
  const relays = createRelays(at.collector, {
    onDiagnostic: (text) => told.push(text),
    onFailed: (error) => told.push(String(error)),
  });
  closers.push(() => relays.close());
  await at.json("/api/v1/runs", { body: { id: "a", name: "a" } });
  await at.collector.tidy(10_000);
  await at.json("/api/v1/runs", { body: { id: "b", name: "b" } });
  let lies = 0;
  up.intercept = (request) => {
    if (!request.url.endsWith("/batches")) return undefined;
    lies++;
    return Response.json({ acked: 1_000_000 + lies });
  };
  await relays.add({ name: "up", url: up.url, token, from: "history", insecure_http: false });
  const look = () => relays.status().relays[0]!;
  for (let tries = 1; tries <= 4; tries++) {
    await until(
      () => {
        relays.retry("up");
        return lies;
      },
      (count) => count >= tries,
    );
    await until(look, ({ error, next_try_at }) => error !== null && next_try_at !== null);
  }
  expect(up.requests.filter((path) => path.endsWith("/history")).length).toBeGreaterThan(3);
  expect(told).toEqual([expect.stringMatching(/^relay up: The platform says that it has entry 100000\d, /)]);
  up.intercept = undefined;
  relays.retry("up");
  await until(look, ({ state, backlog }) => state === "idle" && backlog.entries === 0);
  expect(told.slice(1)).toEqual(["relay up: goes on."]);
});

const told = (...changes: Partial<DeliveryStatus>[]): string[] => {
  const lines: string[] = [];
  const diagnosis = createDiagnosis((text) => lines.push(text));
  const status: DeliveryStatus = {
    state: "starting",
    error: null,
    notice: null,
    acked: 0,
    attempts: 0,
    nextTryAt: null,
    history: null,
  };
  for (const change of changes) {
    Object.assign(status, change);
    diagnosis.tell("up", status);
  }
  return lines;
};
const failed = (message: string, attempts: number, state: DeliveryStatus["state"] = "waiting") => ({
  state,
  error: { message, hint: null, at: 0 },
  attempts,
  nextTryAt: 1,
});
const well = { state: "idle", error: null, attempts: 0, nextTryAt: null } as const;

test("another trouble in the same state is said, and two that alternate are said once each", () => {
  expect(
    told(
      failed("No name.", 1),
      failed("No answer within 15 s.", 2),
      failed("No name.", 3),
      failed("No answer within 16 s.", 4),
      well,
    ),
  ).toEqual(["relay up: No name.", "relay up: No answer within 15 s.", "relay up: goes on."]);
});

test("what comes back is said again where it stays, and not with each single failure", () => {
  expect(
    told(
      failed("No answer.", 1),
      well,
      failed("No answer.", 1),
      well,
      failed("No answer.", 1),
      failed("No answer.", 2),
      failed("No answer.", 3),
      well,
      failed("Not let in.", 1, "paused"),
      well,
      failed("Not let in.", 1, "paused"),
    ),
  ).toEqual([
    "relay up: No answer.",
    "relay up: goes on.",
    "relay up: No answer.",
    "relay up: goes on.",
    "relay up: Not let in.",
    "relay up: goes on.",
    "relay up: Not let in.",
  ]);
});
