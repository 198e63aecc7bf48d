import { constants } from "node:os";
import type { FinishOptions, Run } from "./run.ts";

let installed = false;

/** How a script ends decides how its runs end. */
export function installExitHooks(runs: Set<Run>): void {
  if (installed) return;
  installed = true;
  const finishAll = (outcome: FinishOptions) => {
    for (const run of runs) run.finishNow(outcome);
  };

  // The script ran to its end: there is still an event loop to send with.
  let ranToItsEnd = false;
  process.on("beforeExit", (code) => {
    ranToItsEnd = true;
    const exitCode = process.exitCode === undefined ? code : Number(process.exitCode);
    for (const run of runs) if (!run.isFinished) void run.finish({ exitCode });
  });

  // process.exit(), or an exception that nobody caught.
  let thrown: { reason: string } | undefined;
  const wasAsked = watchExit();
  process.on("exit", (code) => {
    const unheard = isBun && code === 0 && !ranToItsEnd && !wasAsked();
    finishAll({
      exitCode: unheard ? 1 : code,
      ...(unheard ? { reason: "An exception or rejection that nobody caught." } : thrown),
    });
  });
  process.on("uncaughtExceptionMonitor", (error: unknown, origin) => {
    thrown = { reason: error instanceof Error ? `${error.name}: ${error.message}` : String(error) };
    // Deno ends here, without the event `exit`.
    const isCaught = process.listenerCount(origin) > 0;
    if (isDeno && !isCaught) finishAll({ exitCode: 1, ...thrown });
  });

  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, onSignal);

  function onSignal(signal: NodeJS.Signals): void {
    // The script has a handler of its own: it decides.
    if (process.listenerCount(signal) > 1) return;
    const exitCode = 128 + constants.signals[signal];
    finishAll({ status: "KILLED", exitCode, reason: signal });
    process.off(signal, onSignal);
    if (isDeno) process.exit(exitCode);
    else process.kill(process.pid, signal);
  }
}

const isDeno = process.versions["deno"] !== undefined;
const isBun = process.versions["bun"] !== undefined;

/** Bun reports exit code 0 to its hooks when a rejection ends the process: only whether someone asked to exit tells the two apart. */
function watchExit(): () => boolean {
  if (!isBun) return () => true;
  let asked = false;
  const exit = process.exit;
  process.exit = ((code?: number) => {
    asked = true;
    exit(code);
  }) as typeof process.exit;
  return () => asked;
}
