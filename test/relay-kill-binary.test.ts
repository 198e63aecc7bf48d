/**
 * The same of the program as people have it: `binnacle start` and `binnacle start --role platform`, compiled, killed in turn. Without
 * hardware, as nothing may be recorded but by the test.
 */
import { expect, test } from "bun:test";
import { startBinary } from "./helpers/binary.ts";
import type { Party } from "./helpers/child.ts";
import { killInTurn } from "./helpers/relay-kills.ts";

const KILLS = Math.min(100, Number(process.env.KILLS ?? 6));
const SEED = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
/** What is printed while all is well, and of relays in trouble, which is what this is about. */
const EXPECTED =
  /^$|^binnacle: running as root|^binnacle \S+ listens on |^Dashboard: |^FedML: |^binnacle: relay up: /;

async function startProgram(dataDir: string, args: string[]): Promise<Party> {
  const running = await startBinary({ dataDir, args: ["--no-hardware", ...args] });
  return {
    port: Number(new URL(running.url).port),
    token: running.token,
    stderr: () =>
      running
        .output()
        .split("\n")
        .filter((line) => !EXPECTED.test(line))
        .join("\n"),
    request: (path, body) => running.request(`/api/v1${path}`, body),
    async kill() {
      running.process.kill("SIGKILL");
      await running.process.exited;
      // By that, and not because it had ended.
      expect(running.process.signalCode).toBe("SIGKILL");
    },
  };
}

test(
  `${KILLS} kills of the compiled program on either side, on a network that fails, lose nothing and double nothing`,
  async () => {
    console.log(`SEED=${SEED}`);
    const stores = await killInTurn({
      kills: KILLS,
      seed: SEED,
      samples: false,
      start: (side, dataDir) => startProgram(dataDir, side === "platform" ? ["--role", "platform"] : []),
    });
    await stores.remove();
  },
  120_000 + KILLS * 10_000,
);
