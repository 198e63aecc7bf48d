import { join } from "node:path";
import type { GpuSource, ReaderMessage } from "../../src/machine/gpu/message.ts";
import { superviseGpus, type SuperviseOptions } from "../../src/machine/gpu/supervisor.ts";
import { mockEnvironment, type MockOptions, type Scenario } from "./nvml.ts";

type Kind = ReaderMessage["kind"];
type Of<K extends Kind> = Extract<ReaderMessage, { kind: K }>;

export interface WatchedGpus {
  source: GpuSource;
  /** All that was told so far. */
  messages: ReaderMessage[];
  diagnostics: string[];
  /** The first of a kind since the last call of this that `fits`. */
  next<K extends Kind>(kind: K, fits?: (message: Of<K>) => boolean): Promise<Of<K>>;
  /** What a GPU of this number last said, once `fits`. */
  values(gpu: number, fits?: (values: Record<string, number>) => boolean): Promise<Record<string, number>>;
  close(): Promise<void>;
}

export const uuidOf = (gpu: number) =>
  `GPU-1000000${gpu.toString(16)}-0000-4000-8000-00000000000${gpu.toString(16)}`;

/** Command line of the reader from source, with short seconds. */
export const readerCommand = (second: number, ...args: string[]) => [
  process.execPath,
  join(import.meta.dirname, "../../src/cli/main.ts"),
  "gpu-reader",
  "--second",
  String(second),
  ...args,
];

/** The real reader process, supervised, on the library that says what the scenario tells it to. A second takes 100 ms. */
export function watchGpus(
  scenario: Scenario,
  options: Partial<SuperviseOptions> & { mock?: MockOptions; args?: string[] } = {},
): WatchedGpus {
  const second = options.second ?? 100;
  const messages: ReaderMessage[] = [];
  const diagnostics: string[] = [];
  let seen = 0;
  let wake = () => {};
  const source = superviseGpus({
    command: readerCommand(second, ...(options.args ?? [])),
    env: mockEnvironment(scenario, options.mock),
    onDiagnostic: (line) => diagnostics.push(line),
    hasHardware: () => true,
    hasDriver: () => true,
    ...options,
    second,
    // On a busy machine a process can be slow to start and to be heard; tests of silence say what they mean.
    limits: { silence: 100, start: 300, close: 50, abandon: 50, ...options.limits },
  });
  source.subscribe((message) => {
    messages.push(message);
    wake();
  });

  async function next<K extends Kind>(
    kind: K,
    fits: (message: Of<K>) => boolean = () => true,
  ): Promise<Of<K>> {
    const deadline = Date.now() + 20_000;
    for (;;) {
      while (seen < messages.length) {
        const message = messages[seen++]!;
        if (message.kind === kind && fits(message as Of<K>)) return message as Of<K>;
      }
      const left = deadline - Date.now();
      if (left <= 0)
        throw new Error(
          `no ${kind} came; there were ${messages.map((message) => message.kind).join(" ")}; ${diagnostics.join("; ")}; ${JSON.stringify(messages.at(-1))?.slice(0, 2000)}`,
        );
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  return {
    source,
    messages,
    diagnostics,
    next,
    async values(gpu, fits = () => true) {
      const valuesOf = (message: Of<"samples">) =>
        message.gpus.find(({ uuid }) => uuid === uuidOf(gpu))?.values;
      const found = await next("samples", (message) => {
        const values = valuesOf(message);
        return values !== undefined && fits(values);
      });
      return valuesOf(found)!;
    },
    close: () => source.close(),
  };
}
