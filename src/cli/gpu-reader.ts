import { openNvml } from "../machine/gpu/nvml.ts";
import { runReader } from "../machine/gpu/loop.ts";
import { defineCommand, idleConnectionFlags } from "./command.ts";

/** What the collector starts to read GPUs; nobody types it. Its output is lines for src/machine/gpu/supervisor.ts. */
export const command = defineCommand({
  name: "gpu-reader",
  summary: "Read the GPUs for a collector.",
  flags: {
    second: { type: "string", value: "MS", help: "how long a second is, for tests" },
    root: { type: "string", value: "DIR", help: "where /sys and /proc are, for tests" },
    ...idleConnectionFlags,
  },
  examples: [["gpu-reader", "print readings until standard input ends"]],
  run: ({ values }) =>
    runReader({
      open: () => openNvml(),
      second: Number(values.second ?? 1000),
      root: values.root ?? "/",
    }),
});
