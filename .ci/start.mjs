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
let told = false;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"])
  process.on(signal, () => {
    // Once: Ctrl-C comes here from the terminal and again from npm, and has reached the collector by itself. A SIGTERM
    // beside it changes nothing, a second one would cut short its orderly end.
    if (!told) collector.kill("SIGTERM");
    told = true;
  });
collector.on("error", (error) => {
  say(`${binary}: ${error.message}`);
  process.exitCode = 1;
});
collector.on("exit", (code, signal) => {
  process.exitCode = code ?? (signal === "SIGINT" ? 130 : 143);
});
