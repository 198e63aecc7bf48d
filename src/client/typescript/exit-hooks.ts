import type { Run } from "./run.ts";

let installed = false;

/** How a script ends decides how its runs end. */
export function installExitHooks(runs: Set<Run>): void {
  if (installed) return;
  installed = true;
  const live = () => [...runs].filter((run) => !run.isFinished);

  // The script ran to its end: there is still an event loop to send with.
  process.on("beforeExit", (exitCode) => {
    for (const run of live())
      void run.finish({ exitCode: process.exitCode === undefined ? exitCode : Number(process.exitCode) });
  });
  // process.exit(), or an exception that nobody caught.
  process.on("exit", (exitCode) => {
    for (const run of runs)
      run.finishNow({ exitCode, ...(error !== undefined && { reason: describe(error) }) });
  });

  let error: unknown;
  process.on("uncaughtExceptionMonitor", (thrown) => (error = thrown));

  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, onSignal);

  function onSignal(signal: NodeJS.Signals, number: number): void {
    // The script has a handler of its own: it decides.
    if (process.listenerCount(signal) > 1) return;
    for (const run of runs) run.finishNow({ status: "KILLED", exitCode: 128 + number, reason: signal });
    process.off(signal, onSignal);
    process.kill(process.pid, signal);
  }
}

const describe = (error: unknown) =>
  error instanceof Error ? `${error.name}: ${error.message}` : String(error);
