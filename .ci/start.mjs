/** `npm start`: whatever set-up is missing, then `binnacle start` with the flags given after `--`. */
import { spawn } from "node:child_process";
import { binary, ensureBinary, say, setup, SetupError } from "./setup.mjs";

try {
  await ensureBinary(await setup());
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  say(error.message);
  process.exit(1);
}

const collector = spawn(binary, ["start", ...process.argv.slice(2)], { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"])
  process.on(signal, () => {
    // A terminal's Ctrl-C has reached the collector already: it belongs to the same process group.
    if (!(signal === "SIGINT" && process.stdin.isTTY)) collector.kill(signal);
  });
collector.on("error", (error) => {
  say(`${binary}: ${error.message}`);
  process.exitCode = 1;
});
collector.on("exit", (code, signal) => {
  process.exitCode = code ?? (signal === "SIGINT" ? 130 : 143);
});
