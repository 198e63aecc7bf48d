import { findConnection, type Connection } from "../client/typescript/connection.ts";
import { finishAhead } from "../client/typescript/finish-ahead.ts";
import { holdHeartbeat } from "../client/typescript/heartbeat.ts";
import type { Delivery } from "../client/typescript/delivery.ts";
import { requestJson } from "../client/typescript/http.ts";
import { createSender, type Sender } from "../client/typescript/sender.ts";
import { createWriter, newRunId } from "../client/typescript/writer.ts";
import { CollectorError, type ErrorCode } from "../error.ts";
import { isDecided, overrideWarning, toldEnv, withoutOuter } from "../fedml/env.ts";
import type { Config, FinishRun, RunDetail } from "../run/schema.ts";
import { createTokens } from "../token.ts";
import { capture, createShow, type Pulse } from "./capture.ts";
import { enterOwnCgroup } from "./cgroup.ts";
import { ensureCollector } from "./collector.ts";
import { takeControl, type Control } from "./control.ts";
import { sendLeftovers } from "./leftovers.ts";
import { judge, startProgram, type Ending, type RunningProgram, type Verdict } from "./process.ts";

type Env = Record<string, string | undefined>;

/** What to launch, read from the command line and, where there is one, the job file. */
export interface LaunchPlan {
  file: string;
  args: string[];
  /** For people: what the run is listed with. */
  command: string;
  cwd?: string | undefined;
  env: Env;
  runId?: string | undefined;
  name?: string | undefined;
  project?: string | undefined;
  tags?: string[] | undefined;
  config?: Config | undefined;
}

export interface LaunchOptions {
  url?: string | undefined;
  data?: string | undefined;
  /** Lays down the Python modules and says where, for the child's PYTHONPATH. */
  unpackPython: (dataDir: string) => string;
  /** The run stands, its program does not run yet. */
  onRun?: ((run: { id: string; url: string }) => void) | undefined;
}

/** The first answer is awaited so long before the program starts, so that a refusal is known in time. */
const CREATE_WITHIN_MS = 5_000;
/** What a program left behind may hold its output open so long after its own end: it is told to end, then killed. */
const LEFTOVER_MS = 2_000;
const TICK_MS = 100;
/** After so long a person wonders why the prompt does not come back. */
const PATIENCE_MS = 2_000;

/** Runs a program, keeps its output, and resolves with its exit code. */
export async function launch(plan: LaunchPlan, options: LaunchOptions): Promise<number> {
  const id = plan.runId ?? newRunId();
  const where = { url: options.url, data: options.data, env: withoutForeignToken(process.env, id) };
  const { connection, notice } = await ensureCollector(where);
  if (notice) say(`${notice}.`);
  const connect = () => findConnection(where);
  // While the collector is asked. A collector that we had to start is outside.
  const entering = enterOwnCgroup(id);
  const { sender, run } = await openRun(plan, id, connection.spoolDir, connect).catch(
    async (error: unknown) => {
      await leaveFor(entering);
      throw error;
    },
  );
  const url = `${connection.url}/runs/${id}`;
  say(`run ${id}${run ? ` (${run.name})` : ""} · ${url}`);
  options.onRun?.({ id, url });
  if (!run) say("no collector takes it yet: the output is kept, and sent when one does.");

  const cgroup = await entering;
  const fedml = run && !isDecided(plan.env) ? await fedmlOf(connection, id, plan.env) : {};
  const program = startProgram({ ...plan, env: { ...childEnv(plan, id, connection, options), ...fedml } });
  void cgroup.leave();
  const control = takeControl(program);
  const endHeartbeat = holdHeartbeat({
    connection: connect,
    run: id,
    client: sender.client,
    onStop: control.stop,
  });
  const verdict = judge(await watch(program, sender, control), control.asked);
  if (program.pid === 0) say(`${verdict.reason}.`);
  // From here on a signal means: do not wait.
  control.onSignal = () => void sender.abandon();
  const finished = { ...finishOf(verdict), finished: Date.now() };
  const delivery = await finish(sender, finished);
  const isHeard = await finishAhead(delivery, connect, id, { client: sender.client, ...finished });
  if (delivery.delivered) await sendLeft(connect, id, control);
  control.end();
  endHeartbeat();
  cgroup.remove();
  report(delivery, isHeard);
  return verdict.exitCode;
}

/** Nothing will be started in it. */
async function leaveFor(entering: ReturnType<typeof enterOwnCgroup>): Promise<void> {
  const cgroup = await entering;
  await cgroup.leave();
  cgroup.remove();
}

/** What the program's own clients left on disk, until a signal says not to wait for it. */
async function sendLeft(connect: () => Connection, id: string, control: Control): Promise<void> {
  const stop = new AbortController();
  control.onSignal = () => stop.abort(new Error("Interrupted"));
  const begun = performance.now();
  let hasSaid = false;
  const left = await sendLeftovers(connect, id, {
    signal: stop.signal,
    onProgress({ done, bytes }) {
      if (hasSaid || performance.now() - begun < PATIENCE_MS) return;
      hasSaid = true;
      say(
        `sending the program's files (${Math.ceil((bytes - done) / 1e6)} MB to go). Ctrl-C leaves them for \`binnacle sync\`.`,
      );
    },
  });
  for (const { file, error } of left)
    say(`${file} stays: ${error ?? "its client still runs"}. \`binnacle sync\` tries again.`);
}

/** Waits for the collector's first answer, so that a refusal is known before the program starts; `run` undefined: none came. */
async function openRun(
  plan: LaunchPlan,
  id: string,
  spoolDir: string,
  connect: () => Connection,
): Promise<{ sender: Sender; run: RunDetail | undefined }> {
  const offline = Promise.withResolvers<undefined>();
  const sender = createSender({
    connection: connect,
    spoolDir,
    create: {
      id,
      ...(plan.name !== undefined && { name: plan.name }),
      ...(plan.project !== undefined && { project: plan.project }),
      ...(plan.config !== undefined && { config: plan.config }),
      ...(plan.tags?.length && { tags: plan.tags }),
      command: plan.command.slice(0, 100_000),
      started: Date.now(),
      writer: createWriter("launch", 0),
    },
    onChange(online, error) {
      if (online) return;
      if (error instanceof CollectorError && REFUSALS.has(error.code)) offline.reject(error);
      else offline.resolve(undefined);
    },
  });
  // Whatever ends us takes nothing with it.
  process.once("exit", () => void sender.abandon());
  try {
    const answer = await within(CREATE_WITHIN_MS, Promise.race([sender.created, offline.promise]));
    return { sender, run: answer as RunDetail | undefined };
  } catch (error) {
    sender.abandon();
    throw error;
  }
}

/** Answers that no waiting will change: better said now than found out after the training. */
const REFUSALS = new Set<ErrorCode>(["unauthorized", "forbidden", "misdirected"]);

/** A launch inside a launched program makes a run of its own, for which that program's token is no good. */
function withoutForeignToken(env: Env, id: string): Env {
  const token = env["BINNACLE_TOKEN"] ?? "";
  if (!token.startsWith("bnc_run_") || token.startsWith(`bnc_run_${id}_`)) return env;
  return { ...env, BINNACLE_TOKEN: undefined };
}

function childEnv(
  plan: LaunchPlan,
  id: string,
  { url, token, dataDir, spoolDir }: Connection,
  { data, unpackPython }: LaunchOptions,
): Env {
  const env = withoutOuter(plan.env);
  const pythonPath = [attempt(() => unpackPython(dataDir)), env["PYTHONPATH"]].filter(Boolean).join(":");
  return {
    ...env,
    BINNACLE_URL: url,
    BINNACLE_RUN_ID: id,
    // To clients: what is printed is kept, and a stop passed on.
    BINNACLE_LAUNCH: id,
    FEDML_CURRENT_RUN_ID: id,
    BINNACLE_SPOOL: spoolDir,
    ...(data !== undefined && { BINNACLE_DATA: dataDir }),
    // The admin's stays here: what the program gets is good for this run alone.
    ...(token !== undefined && {
      BINNACLE_TOKEN: token.startsWith("bnc_admin_") ? createTokens(token).ofRun(id) : token,
    }),
    ...(pythonPath !== "" && { PYTHONPATH: pythonPath }),
    // Else Python holds lines back until 8 KiB of them have come together.
    PYTHONUNBUFFERED: env["PYTHONUNBUFFERED"] ?? "1",
  };
}

/** What lets FedML's own client take the collector for its platform; nothing where the collector has no such edge. */
async function fedmlOf(connection: Connection, id: string, around: Env): Promise<Env> {
  try {
    const env = toldEnv(await requestJson(connection, `/api/v1/runs/${encodeURIComponent(id)}/fedml`));
    const warning = overrideWarning(env, around);
    if (warning !== undefined) say(warning);
    return env;
  } catch (error) {
    if (!(error instanceof CollectorError) || error.code !== "not-found")
      say(`FedML's own client does not track here: ${(error as Error).message}`);
    return {};
  }
}

/** Without its module a program can still print. */
function attempt(unpack: () => string): string | undefined {
  try {
    return unpack();
  } catch (error) {
    say(`the Python modules can't be written: ${(error as Error).message}`);
    return undefined;
  }
}

/** Reads both streams until the program and what holds its output are gone. */
async function watch(program: RunningProgram, sender: Sender, control: Control): Promise<Ending> {
  const pulse: Pulse = { waiting: 0 };
  const streams = Promise.all([
    capture(program.stdout, "stdout", sender, createShow(process.stdout), pulse),
    capture(program.stderr, "stderr", sender, createShow(process.stderr), pulse),
  ]).then(() => true);
  const ending = await program.ended;
  // What it left behind in the pipes is read at once, unless we are what holds it up; longer, and somebody is still writing.
  let patience = LEFTOVER_MS;
  const leftovers = (["SIGTERM", "SIGKILL"] as const)[Symbol.iterator]();
  while (!(await within(TICK_MS, streams))) {
    if (pulse.waiting === 0) patience -= TICK_MS;
    if (patience > 0) continue;
    patience = LEFTOVER_MS;
    const { value: signal } = leftovers.next();
    if (signal) program.signal(signal);
    else {
      // Out of our reach, in a session of its own.
      program.stdout.destroy();
      program.stderr.destroy();
      await within(LEFTOVER_MS, streams);
      break;
    }
  }
  await control.untilGroupIsGone();
  return ending;
}

type Finish = Omit<FinishRun, "client">;

const finishOf = ({ status, reason, exitCode }: Verdict): Finish => ({
  status,
  exit_code: exitCode,
  ...(reason !== undefined && { reason }),
});

function finish(sender: Sender, finished: Finish): Promise<Delivery> {
  const { dropped } = sender.stats();
  if (dropped.lines > 0)
    sender.logs([
      {
        time: Date.now(),
        stream: "stderr",
        level: "WARNING",
        text: `binnacle: ${dropped.lines} lines are missing in this log: neither the collector nor the spool took them.`,
      },
    ]);
  const patience = setTimeout(() => {
    const { online, spooled } = sender.stats();
    const left = spooled > 0 ? ` (${Math.ceil(spooled / 1e6)} MB)` : "";
    if (online)
      say(`the program has ended; sending what is left${left}. Ctrl-C leaves it for \`binnacle sync\`.`);
  }, PATIENCE_MS);
  return sender.finish(finished).finally(() => clearTimeout(patience));
}

function report({ delivered, spool, stats }: Delivery, isHeard: boolean): void {
  const { dropped, refused, refusedFile, error } = stats;
  if (dropped.lines > 0)
    say(`${dropped.lines} lines were dropped: neither the collector nor the spool took them.`);
  const where = refusedFile ? ` (they are in ${refusedFile})` : "";
  if (refused > 0)
    say(`the collector refused ${refused} batches${where}: ${error?.message ?? "no reason given"}`);
  if (spool) say(`not everything is sent: the rest is in ${spool}. \`binnacle sync\` sends it.`);
  else if (!delivered && !isHeard)
    say(`no collector was told of the run's end: ${error?.message ?? "there was no time"}`);
}

function say(text: string): void {
  process.stderr.write(`binnacle: ${text}\n`);
}

async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) => (timer = setTimeout(() => resolve(undefined), ms)));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
