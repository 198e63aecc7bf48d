import { expect, test } from "bun:test";
import { join } from "node:path";
import { loudly } from "./helpers/binary.ts";

const canCut =
  process.platform === "linux" &&
  Bun.which("unshare") !== null &&
  Bun.which("ip") !== null &&
  Bun.spawnSync(["unshare", "-r", "-n", "ip", "link", "set", "lo", "up"]).exitCode === 0;
const skip = !canCut && loudly("no network of its own can be had here (unshare -r -n), so none is cut");

test.skipIf(skip)(
  "a run whose network is cut is not FAILED: contact is lost, and found again",
  async () => {
    const script = join(import.meta.dirname, "helpers/network-cut.ts");
    const child = Bun.spawn(["unshare", "-r", "-n", process.execPath, script], { stderr: "inherit" });
    const seen = JSON.parse(await new Response(child.stdout).text());
    expect(seen).toEqual({
      before: { status: "RUNNING", contact_lost: null },
      cut: { status: "RUNNING", contact_lost: expect.any(Number) },
      after: { status: "RUNNING", contact_lost: null },
    });
    expect(seen.cut.contact_lost).toBeGreaterThanOrEqual(15);
  },
  120_000,
);
