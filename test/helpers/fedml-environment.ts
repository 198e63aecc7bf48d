import { createKeys } from "../../src/fedml/keys.ts";
import { createTokens } from "../../src/token.ts";
import { binaryPath } from "./binary.ts";
import { runCli } from "./cli.ts";

export interface FedmlServer {
  url: string;
  token: string;
}

/** What sends a client to this server, for one run. */
export function fedmlEnvironment({ url, token }: FedmlServer, run: string): Record<string, string> {
  const secret = createKeys(() => createTokens(token)).secretOf({ run });
  return {
    FEDML_ENV_VERSION: "local",
    FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_HOST: `${new URL(url).host}/fedml/${secret}`,
    FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_PORT: "80",
    FEDML_CURRENT_RUN_ID: run,
    FEDML_CURRENT_VERSION: "local",
    FEDML_USING_MLOPS: "true",
  };
}

/** The same, as a person gets it: what `binnacle fedml env` prints, read by a shell. */
export async function fedmlEnvironmentOfCli(
  { url, token }: FedmlServer,
  run: string,
): Promise<Record<string, string>> {
  const env = { BINNACLE_URL: url, BINNACLE_TOKEN: token };
  const program = [binaryPath()];
  const { code, stdout, stderr } = await runCli(["fedml", "env", "-rid", run], { env, program });
  if (code !== 0) throw new Error(`binnacle fedml env: ${code} ${stderr}`);
  const shell = Bun.spawnSync(["env", "-i", "sh", "-c", `eval "$1" && exec /usr/bin/env`, "sh", stdout]);
  const lines = shell.stdout.toString().split("\n");
  return Object.fromEntries(
    lines
      .filter((line) => line.startsWith("FEDML_"))
      .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
}

/** Asks until it says what is wanted: what a client sends with its last breath is stored after its end. */
export async function eventually<T>(read: () => Promise<T>, isDone: (value: T) => boolean): Promise<T> {
  const end = Date.now() + 15_000;
  for (;;) {
    const value = await read().catch((error: unknown) => error as T);
    if ((!(value instanceof Error) && isDone(value)) || Date.now() > end) return value;
    await Bun.sleep(50);
  }
}
