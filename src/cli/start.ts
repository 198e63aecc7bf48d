import { mkdirSync, rmSync, accessSync, constants, chmodSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { createApp } from "../app.ts";
import { createTrust, type Trust } from "../api/auth.ts";
import type { App } from "../api/route.ts";
import { watchBlobs } from "../blob/watch.ts";
import { openCollector, type Collector } from "../collector.ts";
import { readCollectorFile, type CollectorFile } from "../client/typescript/connection.ts";
import { listSpool, replaySpool, type Post } from "../client/typescript/spool.ts";
import { readConfig, type Config } from "../config.ts";
import { networkFileSystemOf } from "../doctor/folder.ts";
import { CollectorError } from "../error.ts";
import { createFedmlEdge } from "../fedml/edge.ts";
import { selfCommand } from "../launch/collector.ts";
import { superviseGpus } from "../machine/gpu/supervisor.ts";
import { createMachine } from "../machine/machine.ts";
import { createSampler, type Sampler } from "../machine/sampler.ts";
import { createRelays, type Relays } from "../relay/relay.ts";
import { isProcessAlive, readBootId } from "../run/machine.ts";
import { watchRetention } from "../run/retain.ts";
import { restoreRuns, watchRuns } from "../run/watch.ts";
import { keepWithin } from "../store/sample-retain.ts";
import { loadToken, writePrivateFile } from "../token.ts";
import { VERSION } from "../version.ts";
import { defineCommand } from "./command.ts";
import { listen, nameOfBind, urlOf } from "./listen.ts";
import { readRelays } from "./relay-token.ts";
import { welcome, type Started } from "./welcome.ts";

/** Open streams are told to end; a request under way gets so long. */
const DRAIN_MS = 5000;
/** What is in memory is sealed at the end, so that the next start is quick, if it takes no longer. */
const TIDY_MS = 2000;
/** Removed when the disk is full, so that runs can still be deleted. */
const BALLAST_BYTES = 64 * 1024 * 1024;

export const command = defineCommand({
  name: "start",
  summary: "Start the collector and its dashboard.",
  description:
    "Listens on loopback unless told otherwise; elsewhere it wants TLS, or --insecure-http on a network you trust.\n" +
    "The token for --relay stands in $BINNACLE_RELAY_TOKEN; of several, each in $BINNACLE_RELAY_TOKEN_NAME.\n" +
    "Ends at SIGINT, SIGTERM or `binnacle stop`.",
  flags: {
    host: { type: "string", value: "ADDRESS", help: "where to listen (default 127.0.0.1)" },
    port: { type: "string", value: "PORT", help: "default 7070; 0: any free one" },
    data: { type: "string", value: "DIR", help: "data folder (else $BINNACLE_DATA)" },
    "allow-host": {
      type: "string",
      multiple: true,
      value: "NAME",
      help: "a name under which others reach it; may be repeated",
    },
    "tls-cert": { type: "string", value: "FILE", help: "certificate chain, PEM" },
    "tls-key": { type: "string", value: "FILE", help: "its key, PEM" },
    "insecure-http": { type: "boolean", help: "listen, or relay, beyond loopback without TLS" },
    "keep-days": { type: "string", value: "DAYS", help: "delete ended runs after so long (default: never)" },
    "keep-bytes": {
      type: "string",
      value: "SIZE",
      help: "delete the oldest ended runs beyond so much, as 20GB (default: never)",
    },
    gpu: {
      type: "string",
      value: "auto|off",
      help: "read NVIDIA GPUs where there are any (default), or never",
    },
    cores: { type: "boolean", help: "record each processor core, not only all together" },
    "keep-samples": {
      type: "string",
      value: "DAYS",
      help: "keep readings of the hardware for so long at the most (default: 5 years, ever coarser)",
    },
    relay: {
      type: "string",
      multiple: true,
      value: "[NAME=]URL",
      help: "send everything there, too; may be repeated",
    },
    role: { type: "string", value: "ROLE", help: "platform: others may relay here (default collector)" },
    fedml: {
      type: "string",
      value: "on|off|open",
      help: "serve FedML's clients with a run's secret (on, default), never, or everybody on this machine",
    },
    "no-hardware": { type: "boolean", help: "record neither the machine nor its GPUs" },
    "allow-network-fs": { type: "boolean", help: "accept a data folder on NFS, SMB and the like" },
  },
  examples: [
    ["start", "start on http://127.0.0.1:7070"],
    ["start --port 7171 --data /srv/binnacle", "another port, another folder"],
    [
      "start --host 0.0.0.0 --allow-host gpu1 --tls-cert c.pem --tls-key k.pem",
      "reachable as https://gpu1:7070",
    ],
    [
      "start --relay https://platform.example.org:7070",
      "send everything there, too, with the token in $BINNACLE_RELAY_TOKEN",
    ],
    [
      "start --relay lab=https://lab.example.org --relay eu-2=https://eu.example.org",
      "to two, with the tokens in $BINNACLE_RELAY_TOKEN_LAB and $BINNACLE_RELAY_TOKEN_EU_2",
    ],
  ],
  async run({ values }) {
    const running = await start(readConfig(values));
    // What nobody waited for: told, and no reason to end while everything accepted is safe.
    process.on("unhandledRejection", (error) => diagnose(stackOf(error)));
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => running.stop());
    // Last: who has read it may end us.
    process.stdout.write(welcome(running, values.data));
    return running.ended;
  },
});

export interface Running extends Started {
  app: App;
  collector: Collector;
  relays: Relays;
  /** Ends it in order; `ended` tells when. */
  stop(): void;
  /** Resolves with the exit code. */
  ended: Promise<number>;
}

/** Opens the store, listens, and keeps at it until told to stop or the database fails. */
export async function start(config: Config): Promise<Running> {
  process.umask(0o077);
  warnOfRoot();
  const destinations = readRelays(config);
  const dataDir = prepareDataDir(config);
  const { promise: ended, resolve: end } = Promise.withResolvers<number>();
  const ending = new AbortController();

  const collector = open(config, (error) => {
    diagnose(
      `The database can no longer be trusted: ${messageOf(error)}. Start again: what was accepted is kept. ` +
        "Should it happen again, `binnacle doctor` says what is damaged.",
    );
    process.exit(1);
  });
  const trust = createTrust({
    admin: loadToken(dataDir),
    hosts: [...config.allowHosts, ...nameOfBind(config.host)],
    now: collector.now,
    secure: config.tlsCert !== undefined,
  });
  const hardware = config.hardware ? readHardware(collector, config) : undefined;
  const relays = createRelays(collector, {
    onDiagnostic: diagnose,
    onFailed: (error) => diagnose(stackOf(error)),
  });
  const fedml = createFedmlEdge({
    collector,
    tokens: () => trust.tokens,
    mode: config.fedml,
    onDiagnostic: diagnose,
  });
  const app = createApp(collector, {
    trust,
    relays,
    fedml,
    platform: config.role === "platform",
    sampler: hardware?.sampler,
    onUnforeseen: (error) => diagnose(stackOf(error)),
    ending: ending.signal,
    onShutdown: () => stop(),
    command: selfCommand(),
  });
  const server = await listen(config, app.fetch).catch(async (error: unknown) => {
    await hardware?.close();
    await relays.close();
    await collector.close();
    throw error;
  });
  const url = urlOf(config, server.port);
  await fedml?.listen({ host: config.host, port: server.port + 1, secure: config.tlsCert !== undefined });
  writeCollectorFile(dataDir, url);
  await restoreRuns(collector);
  const unwatch = watchRuns(collector, (error) => diagnose(stackOf(error)));
  const endRetention = watchRetention(collector, config, {
    onPruned: (runs) => diagnose(`removed by age or size, as asked: ${runs.join(", ")}`),
    onError: (error) => diagnose(stackOf(error)),
  });
  const endCollection = watchBlobs(collector.blobs, (error) => diagnose(stackOf(error)));
  for (const destination of destinations) await relays.addAddress(destination);
  hardware?.sampler.start();
  const synced = takeSpool(app, trust, join(dataDir, "spool"), ending.signal);

  let stopping = false;
  function stop(): void {
    if (stopping) return;
    stopping = true;
    unwatch();
    endRetention();
    endCollection();
    ending.abort();
    void shutDown();
  }

  async function shutDown(): Promise<void> {
    try {
      await server.stop(DRAIN_MS);
      await synced;
      await fedml?.close();
      await hardware?.close();
      await relays.close();
      await collector.tidy(TIDY_MS);
      await collector.close();
      removeCollectorFile(dataDir);
      end(0);
    } catch (error) {
      diagnose(stackOf(error));
      end(1);
    }
  }

  return {
    url,
    link: `${url}/sign-in?code=${trust.createCode()}`,
    dataDir,
    app,
    collector,
    relays,
    servesFedml: fedml?.port !== undefined,
    stop,
    ended,
  };
}

interface Hardware {
  sampler: Sampler;
  close(): Promise<void>;
}

/** What reads this machine; it does not yet. */
function readHardware(collector: Collector, { gpu, cores, dataDir }: Config): Hardware {
  const machine = createMachine({ cores });
  const gpus = superviseGpus({
    command: [...selfCommand(), "gpu-reader"],
    env: { BINNACLE_ADDONS: join(dataDir, "addons") },
    off: gpu === "off",
    onDiagnostic: diagnose,
  });
  const sampler = createSampler({
    collector,
    machine,
    gpus,
    onError: (error) => diagnose(stackOf(error)),
  });
  return {
    sampler,
    async close() {
      await sampler.close();
      await gpus.close();
      machine.close();
    },
  };
}

const diagnose = (text: string) => void process.stderr.write(`binnacle: ${text}\n`);

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

const stackOf = (error: unknown) => (error instanceof Error ? (error.stack ?? error.message) : String(error));

const diagnoseQuota = (refusing: string | null) =>
  diagnose(
    refusing === null
      ? "there is room again: records, logs and files are accepted."
      : `records, logs and files are refused until there is room: ${refusing}. ` +
          "Free some space, or delete runs (`binnacle run delete`); clients keep their data and send it again.",
  );

function warnOfRoot(): void {
  if (process.getuid?.() === 0)
    diagnose("running as root; a user of its own would do, and would keep more from an attacker.");
}

function prepareDataDir({ dataDir, allowNetworkFs }: Config): string {
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    accessSync(dataDir, constants.R_OK | constants.W_OK | constants.X_OK);
    chmodSync(dataDir, 0o700);
  } catch (cause) {
    throw new CollectorError(
      "forbidden",
      `The data folder ${dataDir} can't be written: ${messageOf(cause)}.`,
      {
        hint: "Name another with --data DIR or $BINNACLE_DATA.",
        cause,
      },
    );
  }
  const fileSystem = networkFileSystemOf(dataDir);
  if (fileSystem !== undefined && !allowNetworkFs)
    throw new CollectorError("conflict", `The data folder ${dataDir} is on ${fileSystem}.`, {
      hint: "Locks and fsync can't be relied on there: name a local folder with --data, or insist with --allow-network-fs.",
    });
  return dataDir;
}

function open({ dataDir, keepSamples }: Config, onFatal: (error: unknown) => void): Collector {
  try {
    return openCollector({
      dataDir,
      ...(keepSamples !== undefined && { samples: { keepDays: keepWithin(keepSamples) } }),
      onFatal,
      onListenerError: (error) => diagnose(stackOf(error)),
      onDiagnostic: diagnose,
      quota: { ballastBytes: BALLAST_BYTES, onChange: diagnoseQuota },
    });
  } catch (cause) {
    const code = (cause as { code?: string }).code ?? "";
    if (code.startsWith("SQLITE_BUSY") || /database is locked/.test(messageOf(cause)))
      throw inUse(dataDir, readCollectorFile(dataDir));
    if (/^SQLITE_(READONLY|CANTOPEN|PERM)|^E(ACCES|ROFS|PERM)/.test(code))
      throw new CollectorError(
        "forbidden",
        `The database in ${dataDir} can't be written: ${messageOf(cause)}.`,
        {
          hint: "Make it yours (chown), or name another folder with --data DIR.",
          cause,
        },
      );
    if (/^SQLITE_(CORRUPT|NOTADB)/.test(code))
      throw new CollectorError(
        "internal",
        `${join(dataDir, "binnacle.db")} is damaged: ${messageOf(cause)}.`,
        {
          hint: "Restore a backup, or name another folder with --data DIR.",
          cause,
        },
      );
    if (/^(SQLITE_FULL|ENOSPC)/.test(code))
      throw new CollectorError("disk-full", `The disk of ${dataDir} is full.`, {
        hint: "Free some space and start again.",
        cause,
      });
    throw cause;
  }
}

function inUse(dataDir: string, file: CollectorFile | undefined): CollectorError {
  const who =
    file && isProcessAlive(file.pid) ? `Process ${file.pid} at ${file.url} has` : "Another process has";
  return new CollectorError("conflict", `${who} the data folder ${dataDir} open.`, {
    hint: "Use that collector, end it with `binnacle stop`, or name another folder with --data DIR.",
  });
}

/** Where clients of this machine find us. */
function writeCollectorFile(dataDir: string, url: string): void {
  const file: CollectorFile = {
    pid: process.pid,
    url,
    version: VERSION,
    host: hostname(),
    boot: readBootId() ?? "",
    started: new Date().toISOString(),
  };
  writePrivateFile(join(dataDir, "collector.json"), `${JSON.stringify(file)}\n`);
}

function removeCollectorFile(dataDir: string): void {
  if (readCollectorFile(dataDir)?.pid === process.pid)
    rmSync(join(dataDir, "collector.json"), { force: true });
}

/** Takes in what clients of this machine left on disk while no collector answered. */
async function takeSpool(app: App, trust: Trust, folder: string, ending: AbortSignal): Promise<void> {
  const post: Post = async (path, body, method) => {
    if (ending.aborted) throw new CollectorError("unreachable", "The collector is shutting down.");
    const response = await app.request(path, {
      method,
      headers: { authorization: `Bearer ${trust.tokens.admin}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    if (response.ok) return;
    const problem = (await response.json()) as Record<string, unknown>;
    const code = String(problem["type"]).replace("urn:binnacle:", "") as CollectorError["code"];
    throw new CollectorError(code, String(problem["detail"]), { details: problem });
  };
  try {
    for (const file of listSpool(folder)) {
      const { outcome, sent, refused, error } = await replaySpool(file, { post });
      if (outcome === "partly")
        diagnose(`${file}: ${refused} requests refused, kept in ${file}.refused: ${error}`);
      else if (outcome === "sent" && sent > 0) diagnose(`took in ${sent} requests from ${file}`);
    }
  } catch (error) {
    diagnose(stackOf(error));
  }
}
