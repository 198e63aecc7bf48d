import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  binaryPath,
  loudly,
  remove,
  startBinary,
  temporaryFolder,
  type RunningBinary,
} from "./helpers/binary.ts";

const noOpenssl = Bun.which("openssl") === null && loudly("docs/relay.md: this machine has no openssl");
const page = readFileSync(join(import.meta.dirname, "../docs/relay.md"), "utf8");

const folder = temporaryFolder();
const running: RunningBinary[] = [];

beforeAll(() => void binaryPath(), 180_000);
afterAll(async () => {
  for (const each of running) await each.stop();
  remove(folder);
});

/** Lines of the page as a person types them, with the names of this test. */
function shell(lines: string[], dataDir: string, platform = ""): string {
  const text = lines.join("\n").replaceAll("https://platform.lan:7070", platform);
  const { exitCode, stdout, stderr } = Bun.spawnSync(["bash", "-euo", "pipefail", "-c", text], {
    cwd: folder,
    env: {
      PATH: `${join(binaryPath(), "..")}:${process.env["PATH"]}`,
      HOME: folder,
      BINNACLE_DATA: join(folder, dataDir),
    },
  });
  expect({ exitCode, stderr: exitCode === 0 ? "" : stderr.toString() }).toEqual({ exitCode: 0, stderr: "" });
  return stdout.toString();
}

/** The line of the page with these words in it. */
const line = (words: string) => {
  const found = page.split("\n").find((each) => each.startsWith("    binnacle ") && each.includes(words));
  expect(found).toBeDefined();
  return found!.trim();
};

test.skipIf(noOpenssl)(
  "an authority of one's own, as the page says it, is trusted by --ca-file and by nothing else",
  async () => {
    const [, recipe] = /^```sh\n(openssl [\s\S]*?)^```$/m.exec(page)!;
    shell([recipe!], "none");
    for (const name of ["platform", "machine"]) mkdirSync(join(folder, name));
    const certificate = [
      "--tls-cert",
      join(folder, "platform.pem"),
      "--tls-key",
      join(folder, "platform.key"),
    ];
    const platform = await startBinary({
      dataDir: join(folder, "platform"),
      args: ["--role", "platform", "--no-hardware", ...certificate],
    });
    running.push(platform);
    running.push(await startBinary({ dataDir: join(folder, "machine"), args: ["--no-hardware"] }));
    const address = platform.url.replace("127.0.0.1", "localhost");

    const trusting = /`(NODE_EXTRA_CA_CERTS=\S+) binnacle source list`/.exec(page)![1]!;
    shell([`${trusting} ${line("source add gpu7 > gpu7.token")}`], "platform");
    const plain = line("relay add lab https://platform.lan:7070 --token-file gpu7.token");
    const withCa = line("--ca-file ca.pem");
    // 4: it stays added, and could not be reached.
    expect(shell([`${plain} --json || test $? = 4`], "machine", address)).toContain("not to be trusted");
    shell(["binnacle relay remove lab --discard"], "machine");
    expect(JSON.parse(shell([`${withCa} --json`], "machine", address))).toMatchObject({
      name: "lab",
      error: null,
    });
    shell(["binnacle launch -n over-tls -- echo hello"], "machine");
    const { url, token } = platform;
    for (;;) {
      const response = await fetch(`${url}/api/v1/runs?source=gpu7&status=FINISHED`, {
        headers: { authorization: `Bearer ${token}` },
        tls: { ca: readFileSync(join(folder, "ca.pem"), "utf8") },
      });
      const { runs } = (await response.json()) as { runs: { name: string }[] };
      if (runs.length === 0) continue;
      expect(runs).toMatchObject([{ name: "over-tls" }]);
      break;
    }
  },
  60_000,
);
