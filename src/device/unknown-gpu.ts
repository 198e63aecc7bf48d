import type { Gpu } from "./schema.ts";

/** One of which no more is known than what it is called. Apart from the schema: pages need it, and no zod. */
export const UNKNOWN_GPU: Omit<Gpu, "uuid" | "index" | "name"> = {
  vendor: "nvidia",
  pci: null,
  minor: null,
  architecture: null,
  cores: null,
  memory: null,
  power_limit: null,
  max_clock_sm: null,
  max_clock_memory: null,
  slowdown_temperature: null,
  parent: null,
  gpu_instance: null,
  compute_instance: null,
  profile: null,
  mig: false,
  lost: false,
  states: {},
};
