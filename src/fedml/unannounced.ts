import { announce, type Announcement } from "../artifact/announce.ts";
import type { Objects } from "../blob/objects.ts";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { nameOf } from "./artifacts.ts";
import { placeRun } from "./place.ts";

/** The client publishes as soon as it has uploaded: what was not announced by then will not be. */
const ADOPT_MS = 5 * 60 * 1000;
/** Weights that a federated run's clients hand each other by the storage are read within minutes. */
const KEEP_MS = 7 * 24 * 3600 * 1000;
const EVERY_MS = 60_000;

/**
 * Objects that no message says anything about. Of what a run has logged, where the client's last message was lost, the key says name and
 * type: it is the run's, as if it had been announced. Anything else is what clients told each other, and goes after a while.
 */
export async function settleUnannounced(collector: Collector, objects: Objects): Promise<void> {
  const now = collector.now();
  for (const place of objects.unclaimed(now - ADOPT_MS)) {
    const about = aboutOfKey(place.key);
    if (!about) continue;
    try {
      const run = await placeRun(collector, { run: place.scope || undefined }, undefined);
      await announce(collector, objects, { run, about, at: { place } });
    } catch (error) {
      // One that can't be kept now must not hold up the others.
      if (!(error instanceof CollectorError)) throw error;
    }
  }
  objects.removeUnclaimed(now - KEEP_MS);
}

/** Settles them each minute; returns what ends it. */
export function watchUnannounced(
  collector: Collector,
  objects: Objects,
  onError: (error: unknown) => void,
): () => void {
  let underWay = false;
  const timer = setInterval(() => {
    if (underWay) return;
    underWay = true;
    void settleUnannounced(collector, objects)
      .catch(onError)
      .finally(() => (underWay = false));
  }, EVERY_MS);
  timer.unref();
  return () => clearInterval(timer);
}

/** Keys as the client makes them of an artifact's name and type; a model's input is put without any message. */
const KEY = /^(.+)_(general|model|dataset|source code|log)\.zip$/s;
const MODEL_INPUT = /^fedml-model-input-run-/;

/** undefined: it is nothing that a run has logged. */
export function aboutOfKey(key: string): Announcement["about"] | undefined {
  const [, name, type] = MODEL_INPUT.test(key) ? [key, "model-input", "general"] : (KEY.exec(key) ?? []);
  if (name === undefined || type === undefined) return undefined;
  return {
    kind: type === "model" ? "model" : "artifact",
    name: nameOf(name),
    type,
    description: `It was uploaded as ${key}; no message said what it is.`,
    metadata: {},
    aliases: [],
    origin: {},
  };
}
