import type { LoggedArtifact } from "../../artifact/schema.ts";
import type { LogItem } from "../../log/schema.ts";
import { initialSteps, takeStep, takeUncommitted, type LogCall, type StepState } from "../../metric/step.ts";
import { Label, RunId, type FinishRun, type RunDetail, type StopRun } from "../../run/schema.ts";
import { createTokens } from "../../token.ts";
import { findConnection, type Connection } from "./connection.ts";
import { sendNow } from "./exit-send.ts";
import { holdHeartbeat } from "./heartbeat.ts";
import { recordConfig, type RecordedConfig } from "./recorded-config.ts";
import { RunFiles, type ArtifactOptions, type ModelOptions, type UseOptions } from "./run-files.ts";
import type { Delivery } from "./delivery.ts";
import { createSender, type Sender } from "./sender.ts";
import { createWriter, newRunId, rankOf } from "./writer.ts";
import { checkedStep, encodeConfig, encodeMetrics, type Metrics } from "./values.ts";

export interface InitOptions {
  name?: string;
  project?: string;
  /** Joins this run where it is live, resumes it where it has ended, else creates it. Default: $BINNACLE_RUN_ID, else a new id. */
  runId?: string;
  config?: Record<string, unknown>;
  tags?: string[];
  notes?: string;
  /** Rank of a distributed run. Default: $RANK, $SLURM_PROCID or $OMPI_COMM_WORLD_RANK. */
  rank?: number;
  /** Default: $BINNACLE_URL, else the collector of this machine. */
  url?: string;
  token?: string;
  /** Someone asked the run to stop. Default: SIGINT to this process, as Ctrl-C would. */
  onStop?: (request: StopRun) => void;
  /** Writes nothing to stderr. */
  quiet?: boolean;
}

export interface LogOptions {
  step?: number | bigint | undefined;
  customizedStepKey?: string | undefined;
  commit?: boolean | undefined;
}

export interface LineOptions {
  level?: LogItem["level"];
  stream?: LogItem["stream"];
  /** ms since the epoch. */
  time?: number;
}

export interface FinishOptions {
  /** Default: FINISHED, or FAILED where exitCode is not 0. */
  status?: FinishRun["status"];
  exitCode?: number;
  reason?: string;
}

/** A run as the script sees it. */
export interface Run {
  readonly id: string;
  /** The run's page. */
  readonly url: string;
  /** What it was started with; assigning to a key records that too. */
  readonly config: Record<string, unknown>;
  /** Resolves with the collector's answer; stays open while none answers. */
  readonly created: Promise<RunDetail>;
  readonly isFinished: boolean;
  /** Records metrics at one step. Never waits; throws where a value can't be recorded. */
  log(metrics: Metrics, options?: LogOptions): void;
  /** Records lines of output, where `binnacle launch` does not capture them. */
  logLine(text: string, options?: LineOptions): void;
  /**
   * Logs a file, or a folder with all that lies in it, as the next version of a model. Sent in the background; resolves when it
   * is with the collector. The files should stay as they are for so long.
   */
  logModel(name: string, path: string, options?: ModelOptions): Promise<LoggedArtifact>;
  /** Logs files and folders as the next version of an artifact, as logModel does. Of several paths each stands under its own name. */
  logArtifact(name: string, paths: string | string[], options?: ArtifactOptions): Promise<LoggedArtifact>;
  /** Fetches a version, notes that the run uses it, and resolves with the folder. */
  useArtifact(name: string, options?: UseOptions): Promise<string>;
  /** Changes what is said about the run. */
  set(change: { name?: string; project?: string; tags?: string[]; notes?: string }): void;
  /** Resolves with true when everything logged so far is answered, false after `timeoutMs`. */
  flush(timeoutMs?: number): Promise<boolean>;
  /**
   * Ends the run; what can't be sent within five seconds stays in the spool folder, and so do models and artifacts that aren't
   * sent within a minute. Happens by itself at the end of a script.
   */
  finish(options?: FinishOptions): Promise<Delivery>;
  /** As finish(), without returning to the event loop: for exit hooks. */
  finishNow(options?: FinishOptions): Delivery;
}

/** finish() waits so long for the collector, and for one that does not answer. */
const FINISH_MS = 5_000;
const OFFLINE_MS = 1_000;
/** Before that for models and artifacts, unless the run was killed: whoever asked a script to end asked for no upload. */
const UPLOAD_MS = 60_000;
/** A run that is joined counts on from its last step, which the collector tells; so long its records wait for that. */
const STEP_MS = 1_000;
const WAITING_CALLS = 10_000;
const MAX_LINE = 1_000_000;

export function createRun(options: InitOptions, env: Record<string, string | undefined> = process.env): Run {
  return new ClientRun(options, env);
}

type Waiting = { call: LogCall; time: number };

class ClientRun implements Run {
  readonly id: string;
  readonly config: Record<string, unknown>;
  readonly created: Promise<RunDetail>;
  isFinished = false;

  readonly #connection: () => Connection;
  readonly #sender: Sender;
  readonly #files: RunFiles;
  readonly #recorded: RecordedConfig;
  readonly #quiet: boolean;
  readonly #isLaunched: boolean;
  #endHeartbeat: (() => void) | undefined;
  #steps: StepState = initialSteps;
  /** Calls that wait for the step to count on from; undefined once it is known. */
  #waiting: Waiting[] | undefined;
  #uncommittedAt = 0;
  #ending: Promise<Delivery> | undefined;
  #sending: Promise<Delivery> | undefined;
  #isClosed = false;

  constructor(options: InitOptions, env: Record<string, string | undefined>) {
    const { name, project, tags, notes, config = {}, rank = rankOf(env), quiet = false } = options;
    const joined = options.runId ?? (env["BINNACLE_RUN_ID"] || undefined);
    this.id = joined === undefined ? newRunId() : check(RunId, joined, "runId");
    this.#quiet = quiet;
    this.#isLaunched = env["BINNACLE_LAUNCH"] === this.id;
    this.#connection = cached(() => clientConnection(options, env));
    const values = encodeConfig(config);
    this.#recorded = recordConfig({ ...config }, (change) => this.#sender.change({ config: change }));
    this.config = this.#recorded.values;

    const writer = createWriter("client", rank);
    const create = {
      id: this.id,
      ...(name !== undefined && { name: check(Label, name, "name") }),
      ...(project !== undefined && { project: check(Label, project, "project") }),
      ...(tags !== undefined && { tags: tags.map((tag) => check(Label, tag, "tag")) }),
      ...(notes !== undefined && { notes }),
      ...(Object.keys(values).length > 0 && { config: values }),
      command: process.argv.join(" ").slice(0, 100_000),
      started: Date.now(),
      writer,
    };
    const { spoolDir } = this.#connection();
    this.#sender = createSender({
      connection: this.#connection,
      spoolDir,
      create,
      timeoutMs: FINISH_MS,
      onChange: (online, error) => this.#tellOnline(online, error),
      onRefused: (error, file) =>
        this.#tell(
          `the collector refused part of the run${file ? ` (it is in ${file})` : ""}: ${error.message}`,
        ),
    });
    this.created = this.#sender.created as Promise<RunDetail>;
    this.#files = new RunFiles({
      connection: this.#connection,
      spoolDir,
      create,
      created: this.created,
      tell: (text) => this.#tell(text),
    });
    if (joined !== undefined) {
      this.#waiting = [];
      setTimeout(() => this.#countFrom(0), STEP_MS).unref();
    }
    this.created.then(
      (run) => this.#begin(run, writer.client, options.onStop),
      (error: Error) => this.#tell(`the collector does not take this run: ${error.message}`),
    );
  }

  get url(): string {
    return `${this.#connection().url}/runs/${this.id}`;
  }

  log(metrics: Metrics, { step, customizedStepKey, commit }: LogOptions = {}): void {
    this.#checkLive();
    const call: LogCall = {
      metrics: encodeMetrics(metrics),
      step: step === undefined || step === null ? undefined : checkedStep(step),
      customizedStepKey,
      commit,
    };
    const time = Date.now();
    if (this.#waiting && this.#waiting.push({ call, time }) < WAITING_CALLS) return;
    if (this.#waiting) this.#countFrom(0);
    else this.#take({ call, time });
  }

  logLine(text: string, { level, stream, time = Date.now() }: LineOptions = {}): void {
    this.#checkLive();
    const shared = { time, ...(stream && { stream }), ...(level && { level }) };
    const items = text
      .split("\n")
      .map((line): LogItem => Object.assign({ text: line.slice(0, MAX_LINE) }, shared));
    this.#sender.logs(items);
  }

  logModel(name: string, path: string, options?: ModelOptions): Promise<LoggedArtifact> {
    this.#checkLive();
    return this.#files.logModel(name, path, options);
  }

  logArtifact(name: string, paths: string | string[], options?: ArtifactOptions): Promise<LoggedArtifact> {
    this.#checkLive();
    return this.#files.logArtifact(name, paths, options);
  }

  useArtifact(name: string, options?: UseOptions): Promise<string> {
    this.#checkLive();
    return this.#files.use(name, options);
  }

  set(change: { name?: string; project?: string; tags?: string[]; notes?: string }): void {
    this.#checkLive();
    this.#sender.change(change);
  }

  flush(timeoutMs = FINISH_MS): Promise<boolean> {
    return this.#sender.flush(timeoutMs);
  }

  finish(options: FinishOptions = {}): Promise<Delivery> {
    this.#ending ??= this.#finish(options);
    return this.#ending;
  }

  async #finish(options: FinishOptions): Promise<Delivery> {
    const finished = Date.now();
    this.#commitRest();
    const withinMs = options.status === "KILLED" ? 0 : UPLOAD_MS;
    await this.#files.settle({ withinMs, offlineMs: OFFLINE_MS });
    const delivery = await this.#finishSending(options, finished);
    this.#close(delivery);
    return delivery;
  }

  #finishSending(options: FinishOptions, finished = Date.now()): Promise<Delivery> {
    this.#sending ??= this.#sender.finish(
      { finished, ...outcomeOf(options) },
      { timeoutMs: FINISH_MS, offlineMs: OFFLINE_MS },
    );
    return this.#sending;
  }

  finishNow(options: FinishOptions = {}): Delivery {
    if (this.#isClosed) return this.#sender.abandon();
    const wasOnline = this.#sender.stats().online;
    this.#files.abandon();
    if (!this.#ending) this.#commitRest();
    this.#ending ??= this.#finishSending(options);
    void this.#finishSending(options);
    const kept = this.#sender.abandon();
    const isSent =
      kept.spool !== undefined && wasOnline && sendNow(kept.spool, this.#connection(), FINISH_MS);
    const delivery = isSent ? { ...kept, delivered: true, spool: undefined } : kept;
    this.#close(delivery);
    return delivery;
  }

  #begin(
    run: RunDetail & { next_step?: number | null },
    client: string,
    onStop: InitOptions["onStop"],
  ): void {
    if (this.isFinished) return;
    for (const [key, value] of Object.entries(run.config)) this.#learn(key, value);
    this.#countFrom(run.next_step ?? 0);
    this.#endHeartbeat = holdHeartbeat({
      connection: this.#connection,
      run: this.id,
      client,
      onStop: (request) => {
        if (onStop) onStop(request);
        // What `launch` started is ended by it, with all its children.
        else if (!this.#isLaunched) this.#stop(request);
      },
    });
    if (!this.#isLaunched) this.#tell(`run ${run.name} (${run.id}) ${this.url}`);
  }

  /** What the collector knows already: a run that is joined, the parameters of a job file. */
  #learn(key: string, value: unknown): void {
    if (!Object.hasOwn(this.config, key))
      Object.defineProperty(this.config, key, {
        value,
        writable: true,
        enumerable: true,
        configurable: true,
      });
  }

  #countFrom(step: number): void {
    const waiting = this.#waiting;
    if (!waiting) return;
    this.#waiting = undefined;
    this.#steps = { ...this.#steps, counter: step };
    for (const call of waiting) this.#take(call);
  }

  #take({ call, time }: Waiting): void {
    const { state, record } = takeStep(this.#steps, call, "native");
    this.#steps = state;
    this.#uncommittedAt = time;
    if (record) this.#sender.records([{ ...record, time }]);
  }

  #commitRest(): void {
    this.isFinished = true;
    this.#recorded.flush();
    this.#countFrom(0);
    const record = takeUncommitted(this.#steps, "native");
    if (record) this.#sender.records([{ ...record, time: this.#uncommittedAt }]);
  }

  #checkLive(): void {
    if (this.isFinished) throw new Error(`run ${this.id} is finished; init() begins another`);
  }

  #stop({ force, reason = "Stopped by request." }: StopRun): void {
    this.#tell(`the run was asked to stop: ${reason}`);
    if (!force) return void process.kill(process.pid, "SIGINT");
    this.finishNow({ status: "KILLED", reason });
    process.kill(process.pid, "SIGKILL");
  }

  #close({ delivered, spool, stats }: Delivery): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#endHeartbeat?.();
    this.#endHeartbeat = undefined;
    const { records, lines } = stats.dropped;
    if (records + lines > 0)
      this.#tell(
        `${records} records and ${lines} lines were dropped: neither the collector nor the disk took them`,
      );
    if (stats.refused > 0) this.#tell(`${stats.refused} batches were refused: ${stats.error?.message}`);
    if (!delivered && spool)
      this.#tell(
        `run ${this.id} is not delivered completely (${stats.error?.message ?? "the collector is slow"}) ` +
          `The rest is in ${spool}; \`binnacle sync\` sends it.`,
      );
  }

  #tellOnline(online: boolean, error: Error | undefined): void {
    if (online) this.#tell("the collector is back");
    else this.#tell(`${error?.message ?? "no collector answers."} What is logged is kept on disk meanwhile.`);
  }

  #tell(text: string): void {
    if (!this.#quiet) process.stderr.write(`binnacle: ${text}\n`);
  }
}

function outcomeOf({ status, exitCode, reason }: FinishOptions): Omit<FinishRun, "client"> {
  return {
    status: status ?? (exitCode ? "FAILED" : "FINISHED"),
    ...(exitCode !== undefined && { exit_code: exitCode & 0xff }),
    ...(reason !== undefined && { reason: reason.slice(0, 10_000) }),
  };
}

/** Read again now and then: a collector that was restarted may have another port or token. */
function cached(find: () => Connection): () => Connection {
  let found: Connection | undefined;
  let until = 0;
  return () => {
    if (!found || performance.now() > until) {
      found = find();
      until = performance.now() + 1000;
    }
    return found;
  };
}

/** The admin's token stays at home: whoever else listens on that port would get it. This one only writes. */
function clientConnection({ url, token }: InitOptions, env: Record<string, string | undefined>): Connection {
  const connection = findConnection({ url, token, env });
  const isLocal = !token && !env["BINNACLE_TOKEN"] && connection.token?.startsWith("bnc_admin_");
  return isLocal ? { ...connection, token: createTokens(connection.token!).write } : connection;
}

function check<T>(schema: { safeParse(value: unknown): { success: boolean } }, value: T, what: string): T {
  if (schema.safeParse(value).success) return value;
  throw new RangeError(
    `${what} ${JSON.stringify(value)} can't be used: see the documentation for what it may hold`,
  );
}
