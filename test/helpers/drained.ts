import type { Relay } from "../../src/relay/schema.ts";
import type { Party } from "./child.ts";

export async function relayOf(collector: Party): Promise<Relay> {
  const response = await collector.request("/relays").catch((error: Error) => {
    throw new Error(`The collector is gone: ${collector.stderr()}`, { cause: error });
  });
  const { relays } = (await response.json()) as { relays: Relay[] };
  return relays[0]!;
}

/** All there is has arrived, files too. Whoever waits to try again is told to try now. `platform`: told of where it does not arrive. */
export async function drained(
  collector: Party,
  { signal, platform }: { signal?: AbortSignal; platform?: Party | undefined } = {},
): Promise<Relay> {
  const began = performance.now();
  // What is broken on purpose is not waited for.
  const end = began + (process.env.MUTANT === undefined ? 30_000 : 8000);
  /** What it went through, so that what held it up is told. */
  const course: string[] = [];
  for (;;) {
    signal?.throwIfAborted();
    const relay = await relayOf(collector);
    const { state, backlog, content, next_try_at, error, attempts, acked } = relay;
    if (state === "idle" && backlog.entries === 0 && content?.files === 0) return relay;
    const words = [state, `acked ${acked}`, `attempts ${attempts}`, error?.message, Bun.inspect(content)];
    const stage = words.filter((word) => word !== undefined).join(", ");
    if (course.at(-1)?.replace(/^\S+ s: /, "") !== stage)
      course.push(`${((performance.now() - began) / 1000).toFixed(1)} s: ${stage}`);
    if (performance.now() > end) throw new Error(await whereabouts(collector, platform, course));
    if (next_try_at !== null || (content?.error ?? null) !== null)
      await collector.request("/relays/up/retry", {});
    await Bun.sleep(20);
  }
}

/** Both sides' own words: a failure that does not come again has to tell what it was. */
async function whereabouts(collector: Party, platform: Party | undefined, course: string[]): Promise<string> {
  const ask = async (party: Party | undefined, path: string): Promise<unknown> => {
    if (!party) return "not asked";
    try {
      const response = await party.request(path);
      return response.ok ? await response.json() : `${response.status}`;
    } catch (error) {
      return `no answer: ${(error as Error).message}`;
    }
  };
  const told = {
    relay: await ask(collector, "/relays"),
    journal: await ask(collector, "/journal"),
    stderr: collector.stderr(),
    platform: {
      sources: await ask(platform, "/sources"),
      journal: await ask(platform, "/journal"),
      stderr: platform?.stderr(),
    },
  };
  const first = course.slice(0, 10);
  const left = course.length > 60 ? [`(${course.length - 60} more)`] : [];
  const last = course.slice(10).slice(-50);
  return ["It did not arrive:", ...first, ...left, ...last, Bun.inspect(told, { depth: 8 })].join("\n");
}
