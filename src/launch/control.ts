import type { StopRun } from "../run/schema.ts";
import type { Asked, RunningProgram } from "./process.ts";

/** Between a stop's SIGTERM and its SIGKILL. */
const STOP_GRACE_MS = 10_000;
const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;
/** Signals by which a run is ended; the others are messages to the program. */
const ENDING = new Set<NodeJS.Signals>(["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"]);

/** The two ways in which somebody ends a program that runs: a signal to us, and a stop from the dashboard or the CLI. */
export interface Control {
  readonly asked: Asked;
  /** What a signal to us does; at first it is passed on to the program and everything it started. */
  onSignal: (signal: NodeJS.Signals) => void;
  stop(this: void, request: StopRun): void;
  /** After a stop: resolves when nothing is left of the program, which is killed when its time is up. */
  untilGroupIsGone(): Promise<void>;
  end(): void;
}

export function takeControl(program: RunningProgram): Control {
  const asked: Asked = {};
  let killAt: number | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;

  function kill(): void {
    program.signal("SIGKILL");
  }

  const control: Control = {
    asked,
    onSignal(signal) {
      if (ENDING.has(signal)) asked.signal = signal;
      program.signal(signal);
    },
    stop({ force, reason }) {
      asked.stop ??= reason ?? "Stopped by request.";
      if (force) return kill();
      if (killAt !== undefined) return;
      killAt = performance.now() + STOP_GRACE_MS;
      timer = setTimeout(kill, STOP_GRACE_MS);
      program.signal("SIGTERM");
    },
    async untilGroupIsGone() {
      if (asked.stop === undefined) return;
      // The dead count too where nobody collects them (a container without an init): they are not waited for.
      const giveUpAt = (killAt ?? performance.now()) + 500;
      while (program.isLeft() && performance.now() < giveUpAt) {
        if (killAt === undefined || performance.now() > killAt) kill();
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    end() {
      clearTimeout(timer);
      for (const signal of FORWARDED) process.off(signal, handle);
    },
  };
  const handle = (signal: NodeJS.Signals) => control.onSignal(signal);
  for (const signal of FORWARDED) process.on(signal, handle);
  return control;
}
