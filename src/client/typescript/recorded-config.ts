import type { Config } from "../../run/schema.ts";
import { encodeConfig } from "./values.ts";

export interface RecordedConfig {
  /** Assigning to its keys, and deleting them, is told. */
  values: Record<string, unknown>;
  /** Tells what this tick has changed so far. */
  flush(): void;
}

/** Changes of one tick are told together; null stands for a key that was removed. */
export function recordConfig(
  initial: Record<string, unknown>,
  onChange: (change: Config) => void,
): RecordedConfig {
  let pending: Record<string, unknown> | undefined;

  function note(key: string, value: unknown): void {
    // A value that can't be kept is an error on the line that assigns it.
    encodeConfig({ [key]: value });
    if (!pending) queueMicrotask(flush);
    pending = { ...pending, [key]: value };
  }

  function flush(): void {
    const change = pending;
    pending = undefined;
    if (change) onChange(encodeConfig(change));
  }

  const values = new Proxy(initial, {
    set(target, key, value) {
      if (typeof key === "string") note(key, value ?? null);
      return Reflect.set(target, key, value);
    },
    deleteProperty(target, key) {
      if (typeof key === "string") note(key, null);
      return Reflect.deleteProperty(target, key);
    },
  });
  return { values, flush };
}
