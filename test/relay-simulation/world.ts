import { deliver } from "../../src/relay/deliver.ts";
import type { Frame } from "../../src/relay/contract.ts";
import { checkAll } from "./check.ts";
import { copyDatabase, isHuge, itemsOf, pack, type Database, type Run } from "./journal.ts";
import { calm, createTransport, type NetworkFlaws, type Weather } from "./network.ts";
import { blank, createOutbox, openDatabase } from "./outbox.ts";
import {
  copyPlatform,
  createPlatform,
  type Platform,
  type PlatformDatabase,
  type PlatformFlaws,
} from "./platform.ts";
import { createProcess, type Process } from "./process.ts";
import { createDice, type Dice } from "./random.ts";
import { createScheduler, type Scheduler } from "./scheduler.ts";

/** Rules that are broken on purpose, to see that it is found. */
export interface Flaws extends PlatformFlaws, NetworkFlaws {
  /** The source goes on from where it believes to be. */
  trustLocal?: boolean;
  /** A client is answered before the commit, and forgets. */
  answerEarly?: boolean;
  /** What makes room is not counted. */
  dropSilently?: boolean;
}

/** What may happen in a seed: each has some of it, so that each is seen without the others, too. */
export interface Features {
  crashes: number;
  platformCrashes: number;
  restores: boolean;
  /** Whole machines go back, with what is in memory. */
  snapshots: boolean;
  platformRestores: boolean;
  clones: boolean;
  trims: boolean;
  cuts: boolean;
  imports: boolean;
  poison: boolean;
  huge: boolean;
  futures: boolean;
  deletes: boolean;
  retries: boolean;
  outages: boolean;
  smallBodies: boolean;
  /** The disk is full again and again: the journal is cut, and the oldest readings of the hardware make room, counted. */
  fills: boolean;
  /**
   * A source may be restored to what it was in a life that it had left. Its clients then remember all they ever sent: one that fills a
   * batch's number with nothing, as it no longer has the batch, would make the batch of the other life be taken for a repetition.
   */
  jumps: boolean;
}

/** An installation: its database, and the process that has it open. */
export interface Node {
  name: string;
  database: Database;
  process: Process | undefined;
  /** Its clock less the true time, ms. */
  clockOff: number;
  backups: Database[];
  snapshots: { database: Database; monotonic: number }[];
  /** Its entries are not all of one life. */
  isForked: boolean;
  isCloned: boolean;
  wakes: Set<() => void>;
  retry: (() => void)[];
  writers: Writer[];
  /** All that its clients were told is kept. */
  answered: Answered[];
  /** All that its hardware ever read, with its entry. */
  measured: { value: string; seq: number }[];
}

/** A batch that a client was answered for. */
export interface Answered {
  run: string;
  of: Writer["of"];
  items: string[];
}

/** A training program: what it has been answered for is durable, and it remembers some of it. */
interface Writer {
  client: string;
  run: string;
  of: "metric" | "log";
  acked: number;
  remembered: Map<number, string[]>;
  isBusy: boolean;
}

export interface Site {
  name: string;
  database: PlatformDatabase;
  backups: PlatformDatabase[];
  current: { process: Process; platform: Platform } | undefined;
  isRestored: boolean;
  /** Highest cursor it ever had of a source. */
  everAcked: Map<string, number>;
  /** What was ever a dead letter of it: a source that goes back to a backup has lost its letters, and the platform has passed over. */
  everDead: Set<string>;
}

export interface World {
  seed: number;
  scheduler: Scheduler;
  features: Features;
  nodes: Node[];
  sites: Site[];
  violations: string[];
  trace: string[];
  counts: Record<string, number>;
}

const MINUTE = 60_000;
const WINDOW = 4;
/** What a disk holds of entries, and of readings whose entries are gone. */
const MOST_ENTRIES = 25;
const MOST_SAMPLES = 30;

export interface SimulateOptions {
  flaws?: Flaws;
  trace?: boolean;
  /** Whether a disk may be full. */
  fills?: boolean;
}

/** One seed, from its first entry to the end of all faults and one more record. */
export function simulate(
  seed: number,
  { flaws = {}, trace: isTraced = false, fills: isFilled = true }: SimulateOptions = {},
): World {
  const dice = createDice(seed);
  const scheduler = createScheduler();
  const features = chooseFeatures(dice);
  const foul = chooseWeather(dice);
  // Of its own numbers: seeds that told of something are to go on as they did. Where both sides go back, the entry that would tell two
  // lives under one nonce apart is gone with the others.
  const isTellable = !(features.snapshots && features.platformRestores);
  features.fills =
    isFilled && features.trims && features.cuts && isTellable && createDice(seed + 2 ** 30).chance(0.5);
  const world: World = {
    seed,
    scheduler,
    features,
    nodes: [],
    sites: [],
    violations: [],
    trace: [],
    counts: {},
  };
  let isCalm = false;
  let nextName = 1;
  const newId = () => dice.hex(32);
  const say = isTraced
    ? (text: string) => void world.trace.push(`${(scheduler.now() / 1000).toFixed(3).padStart(9)} ${text}`)
    : undefined;
  const count = (what: string) => (world.counts[what] = (world.counts[what] ?? 0) + 1);
  const violate = (text: string) => {
    say?.(`VIOLATED: ${text}`);
    if (world.violations.length < 10) world.violations.push(text);
  };
  const chaos = {
    crashes: (process: Process) => {
      if (isCalm) return false;
      const { crashes, platformCrashes } = features;
      return dice.chance(process.name.startsWith("platform") ? platformCrashes : crashes);
    },
  };

  // Platforms.

  function addSite(): void {
    const site: Site = {
      name: `platform ${world.sites.length + 1}`,
      database: { id: newId(), sources: new Map() },
      backups: [],
      current: undefined,
      isRestored: false,
      everAcked: new Map(),
      everDead: new Set(),
    };
    world.sites.push(site);
    startSite(site);
  }

  function startSite(site: Site): void {
    if (site.current?.process.isAlive) return;
    const process = createProcess(site.name, { scheduler, dice, chaos, say }, () => {
      count("platform crashes");
      scheduler.after(dice.next() * (dice.chance(0.2) ? 2 * MINUTE : 5000), () => startSite(site));
    });
    const platform = createPlatform({
      process,
      database: site.database,
      now: () => scheduler.now(),
      knowsAll: () => isCalm || scheduler.now() > 2 * MINUTE,
      isVague: () => !isCalm && dice.chance(0.3),
      say,
      flaws,
      onCommit(source, before, after) {
        site.everAcked.set(source, Math.max(site.everAcked.get(source) ?? 0, after.acked));
        if (!before) return;
        if (after.epoch < before.epoch)
          violate(`I4: ${site.name} went back from epoch ${before.epoch} to ${after.epoch}`);
        if (after.epoch === before.epoch && after.acked < before.acked)
          violate(
            `I4: the cursor at ${site.name} went back from ${before.acked} to ${after.acked} in epoch ${after.epoch}`,
          );
        if (after.epoch > before.epoch) count("new epochs");
      },
    });
    site.current = { process, platform };
  }

  // Installations.

  function addNode(database: Database, of?: Node): Node {
    const node: Node = {
      name: `source ${world.nodes.length + 1}`,
      database,
      process: undefined,
      clockOff: dice.chance(0.2) ? dice.int(-3e11, 3e11) : dice.int(-5000, 5000),
      backups: [],
      snapshots: [],
      isForked: of !== undefined,
      isCloned: of !== undefined,
      wakes: new Set(),
      retry: [],
      writers: [],
      answered: [],
      measured: [],
    };
    // What is written at all is written after 2020.
    node.clockOff += 2e12;
    world.nodes.push(node);
    return node;
  }

  function startNode(node: Node, snapshot?: { monotonic: number }): void {
    if (node.process?.isAlive) return;
    const { database } = node;
    if (!snapshot) {
      openDatabase(database, newId());
      // What an import left must not come back.
      for (const run of database.runs.values()) if (run.importing) database.runs.delete(run.id);
    }
    const process = createProcess(node.name, { scheduler, dice, chaos, say }, () => {
      count("crashes");
      node.process = undefined;
      scheduler.after(dice.next() * (dice.chance(0.2) ? 3 * MINUTE : 8000), () => startNode(node));
    });
    node.process = process;
    node.wakes.clear();
    node.retry = [];
    const bootedAt = scheduler.now() - (snapshot?.monotonic ?? dice.int(0, 1000));
    say?.(
      `${node.name} starts as ${database.id.slice(0, 4)}/${database.epoch}/${database.nonce.slice(0, 4)}, last ${database.last}`,
    );
    for (const site of world.sites) startDelivery(node, process, site, bootedAt);
  }

  function startDelivery(node: Node, process: Process, site: Site, bootedAt: number): void {
    const { database } = node;
    const say_ = say && ((text: string) => say(`${node.name} → ${site.name}: ${text}`));
    let requests = 0;
    const outbox = createOutbox({
      process,
      database,
      to: site.name,
      dice,
      subscribe(wake) {
        node.wakes.add(wake);
        return () => node.wakes.delete(wake);
      },
      newNonce: newId,
      onIdentity: () =>
        say_?.(`is now ${database.id.slice(0, 4)}/${database.epoch}/${database.nonce.slice(0, 4)}`),
      onSave(acked, letters) {
        for (const { frame } of letters) for (const item of itemsOf(frame)) site.everDead.add(item);
        if (acked > (site.everAcked.get(database.id) ?? 0))
          violate(`${node.name} takes ${acked} for acknowledged, which ${site.name} never had`);
      },
    });
    const transport = createTransport({
      scheduler,
      dice,
      weather: () => (isCalm ? calm : foul),
      say: say_,
      platform: () => (site.current?.process.isAlive ? site.current : undefined),
      from: process,
      mostFrames: () => (features.smallBodies && !isCalm ? 3 : Infinity),
      isHuge,
      onRequest(delta) {
        requests = Math.max(0, requests + delta);
        if (requests > WINDOW) violate(`I6: ${requests} requests under way`);
      },
      flaws,
    });
    if (flaws.trustLocal) {
      const { greet } = transport;
      transport.greet = async (...args) => ({
        ...(await greet(...args)),
        acked: database.destinations.get(site.name)!.state.acked,
      });
    }
    const start = () => {
      // What was under way before is nobody's any more.
      requests = 0;
      const controller = new AbortController();
      let state = "";
      void deliver(
        {
          outbox,
          transport,
          clock: {
            monotonic: () => scheduler.now() - bootedAt,
            now: () => scheduler.now() + node.clockOff,
            sleep: (ms, signal) =>
              process.hear(
                new Promise((resolve) => {
                  if (signal.aborted) return resolve();
                  signal.addEventListener("abort", () => resolve(), { once: true });
                  scheduler.after(ms, resolve);
                }),
              ),
          },
          random: dice.next,
          path: () => [database.id],
          facts: { host: node.name, version: "0" },
          window: WINDOW,
          onChange(status) {
            if (status.state === state) return;
            state = status.state;
            count(state);
            say_?.(`${state}${status.error ? `: ${status.error.message}` : ""}`);
          },
        },
        controller.signal,
      ).catch((error) => violate(`deliver ended: ${error instanceof Error ? error.stack : String(error)}`));
      return controller;
    };
    let controller = start();
    node.retry.push(() => {
      say_?.("is told to try again");
      controller.abort();
      controller = start();
    });
  }

  // What is written.

  function append(
    node: Node,
    entry: Partial<Frame> & { kind: string; run: string; payload: Uint8Array },
  ): number {
    const { database, wakes } = node;
    const seq = ++database.last;
    database.journal.push({ ...blank, count: 1, time: scheduler.now() + node.clockOff, ...entry, seq });
    if (features.fills) makeRoom(node);
    const waiting = [...wakes];
    for (const wake of waiting) wake();
    return seq;
  }

  /** What history can bring goes first; then the oldest readings, which nobody can bring any more. */
  function makeRoom({ name, database }: Node): void {
    const { journal, devices, destinations } = database;
    const over = journal.length - MOST_ENTRIES;
    if (over > 0) journal.splice(0, over);
    const first = journal[0]!.seq;
    for (const device of devices.values()) {
      const { samples, sampleSeqs } = device;
      const gone = sampleSeqs.filter((seq) => seq < first).length - MOST_SAMPLES;
      if (gone <= 0) continue;
      samples.splice(0, gone).forEach(({ value }, i) => {
        for (const { state, skip, dropped } of destinations.values())
          if (sampleSeqs[i]! > Math.max(state.acked, skip) && !flaws.dropSilently) dropped.add(value);
      });
      sampleSeqs.splice(0, gone);
      device.thinned += gone;
      count("thinned");
      say?.(`${name} has no room for ${gone} readings`);
      const held = sampleSeqs.filter((seq) => seq < first).length;
      if (held > MOST_SAMPLES) violate(`I6: ${name} holds ${held} readings`);
    }
    if (journal.length > MOST_ENTRIES) violate(`I6: ${name} holds ${journal.length} entries`);
  }

  function createRun(node: Node): Run {
    const run: Run = {
      id: `run${nextName++}`,
      label: "new",
      records: [],
      lines: [],
      recordSeqs: [],
      lineSeqs: [],
      clients: new Map(),
      deleted: false,
      importing: false,
    };
    node.database.runs.set(run.id, run);
    append(node, { kind: "run.created", run: run.id, payload: pack({ label: run.label }) });
    return run;
  }

  function appendItems(
    node: Node,
    run: Run,
    of: Writer["of"],
    items: string[],
    client: string | null,
    clientSeq: number | null,
  ) {
    const [list, seqs] = of === "log" ? [run.lines, run.lineSeqs] : [run.records, run.recordSeqs];
    const ordinal = list.length + (of === "log" ? 1 : 0);
    const seq = append(node, {
      kind: of === "log" ? "log.appended" : "metric.appended",
      run: run.id,
      client,
      clientSeq,
      ordinal,
      count: items.length,
      payload: pack(items),
    });
    list.push(...items);
    say?.(`${node.name} has ${items.join()} as ${ordinal} of ${run.id}, entry ${seq}`);
    seqs.push(...items.map(() => seq));
    if (client !== null) run.clients.set(client, clientSeq!);
  }

  const usable = (node: Node) =>
    [...node.database.runs.values()].filter(({ deleted, importing }) => !deleted && !importing);

  async function write(node: Node, process: Process, writer: Writer): Promise<void> {
    writer.isBusy = true;
    // A crash takes the request along, not the writer.
    scheduler.after(500, () => (writer.isBusy = false));
    const { client, of } = writer;
    const next = writer.acked + 1;
    if (!writer.remembered.has(next)) {
      const items = Array.from({ length: dice.int(1, 4) }, (_, i) => `${client}.${next}.${i}`);
      if (features.poison && dice.chance(0.02)) items[0] += "poison";
      if (features.huge && dice.chance(0.02)) items[0] += "huge";
      writer.remembered.set(next, items);
    }
    const sent = writer.remembered.get(next)!;
    const told = () => void node.answered.push({ run: writer.run, of, items: sent });
    if (flaws.answerEarly) {
      told();
      writer.acked = next;
      writer.remembered.delete(next);
    }
    for (;;) {
      await process.step("before the commit of a client's batch");
      const run = node.database.runs.get(writer.run);
      if (!run || run.deleted) return void node.writers.splice(node.writers.indexOf(writer), 1);
      const taken = run.clients.get(client) ?? 0;
      if (taken >= next) break;
      // What the database has lost again is sent again by who still has it.
      const items = taken + 1 === next ? sent : (writer.remembered.get(taken + 1) ?? []);
      appendItems(node, run, of, items, client, taken + 1);
    }
    await process.step("after the commit of a client's batch");
    if (!flaws.answerEarly) told();
    writer.acked = next;
    if (!features.jumps && dice.chance(0.5)) writer.remembered.clear();
    writer.isBusy = false;
  }

  function hire(node: Node): void {
    const runs = usable(node);
    const run = runs.length > 0 && dice.chance(0.7) ? dice.pick(runs) : createRun(node);
    const of = dice.chance(0.6) ? "metric" : "log";
    node.writers.push({
      client: `c${nextName++}`,
      run: run.id,
      of,
      acked: 0,
      remembered: new Map(),
      isBusy: false,
    });
  }

  async function importRun(node: Node, process: Process): Promise<void> {
    const run = createRun(node);
    const created = node.database.journal.pop()!;
    node.database.journal.push({ ...created, kind: "import.began" });
    run.importing = true;
    say?.(`${node.name} imports ${run.id}`);
    for (let left = dice.int(1, 5); left > 0; left--) {
      await process.step("importing");
      const items = Array.from({ length: dice.int(1, 5) }, () => `i${nextName++}`);
      appendItems(node, run, dice.chance(0.5) ? "metric" : "log", items, null, null);
      await scheduler.sleep(dice.next() * 3000);
    }
    await process.step("before an import is whole");
    run.importing = false;
    append(node, { kind: "run.imported", run: run.id, payload: pack({}) });
  }

  function sample(node: Node): void {
    const device = node.database.devices.get("d1")!;
    const last = device.samples.at(-1)?.time ?? 0;
    const now = scheduler.now() + node.clockOff;
    const samples = Array.from({ length: dice.int(1, 4) }, (_, i) => ({
      time: Math.max(last, now) + i + 1,
      value: `s${nextName++}`,
    }));
    const seq = append(node, {
      kind: "sample.appended",
      run: "device:d1",
      count: samples.length,
      payload: pack(samples),
    });
    device.samples.push(...samples);
    say?.(
      `${node.name} measures ${samples.map(({ time, value }) => `${value} at ${time - 2e12}`).join()}, entry ${seq}`,
    );
    device.sampleSeqs.push(...samples.map(() => seq));
    node.measured.push(...samples.map(({ value }) => ({ value, seq })));
  }

  function act(node: Node): void {
    const { process, database } = node;
    if (!process?.isAlive) return;
    const roll = dice.next();
    if (node.writers.length < 3 && roll < 0.3) hire(node);
    else if (roll < 0.6 && node.writers.length > 0) {
      const writer = dice.pick(node.writers);
      if (!writer.isBusy) void write(node, process, writer);
    } else if (roll < 0.72) void process.step("before samples").then(() => sample(node));
    else if (roll < 0.8) relabel(node);
    else if (roll < 0.82) {
      const device = database.devices.get("d1")!;
      device.label = `l${nextName++}`;
      append(node, { kind: "device.changed", run: "device:d1", payload: pack({ label: device.label }) });
    } else if (roll < 0.84 && features.futures)
      append(node, { kind: "future.recorded", run: "future:", payload: pack({ id: `f${nextName++}` }) });
    else if (roll < 0.86 && features.imports) void importRun(node, process);
    else if (roll < 0.87 && features.deletes) remove(node);
    else if (roll < 0.93 && features.trims) trim(node);
    else if (node.writers.length > 0 && roll > 0.98) node.writers.splice(0, 1);
  }

  function relabel(node: Node): void {
    const runs = usable(node);
    if (runs.length === 0) return;
    const run = dice.pick(runs);
    run.label = `l${nextName++}`;
    append(node, { kind: "run.changed", run: run.id, payload: pack({ label: run.label }) });
  }

  function remove(node: Node): void {
    const runs = usable(node);
    if (runs.length === 0) return;
    const run = dice.pick(runs);
    say?.(`${node.name} deletes ${run.id}`);
    run.deleted = true;
    append(node, { kind: "run.deleted", run: run.id, payload: pack({}) });
  }

  /** What every destination has may go; what one lacks may, too, where there is no room. */
  function trim(node: Node): void {
    const { database } = node;
    const acked = [...database.destinations.values()].map(({ state, skip }) => Math.max(state.acked, skip));
    let before = Math.max(0, Math.min(...acked) - dice.int(0, 6));
    if (features.cuts && dice.chance(0.15)) {
      before = Math.max(before, database.last - dice.int(0, 15));
      say?.(`${node.name} has no room for entries up to ${before}`);
      count("cuts");
    }
    const kept = database.journal.findIndex(({ seq }) => seq > before);
    database.journal.splice(0, kept < 0 ? database.journal.length : kept);
  }

  // Accidents.

  function accident(): void {
    const node = dice.pick(world.nodes);
    const site = dice.pick(world.sites);
    const { restores, snapshots, platformRestores, clones, retries, outages } = features;
    const kinds = [
      ...(restores ? ["backup", "restore"] : []),
      ...(snapshots ? ["snapshot", "roll back"] : []),
      ...(platformRestores ? ["platform backup", "platform restore"] : []),
      ...(clones && world.nodes.length < 3 ? ["clone"] : []),
      ...(retries ? ["retry"] : []),
      ...(outages ? ["outage"] : []),
    ];
    if (kinds.length === 0) return;
    const kind = dice.pick(kinds);
    if (kind === "backup") node.backups.push(copyDatabase(node.database));
    else if (kind === "restore" && node.backups.length > 0) restore(node);
    else if (kind === "snapshot" && node.process)
      node.snapshots.push({ database: copyDatabase(node.database), monotonic: dice.int(1000, 20_000) });
    else if (kind === "roll back" && node.snapshots.length > 0) rollBack(node);
    else if (kind === "platform backup") site.backups.push(copyPlatform(site.database));
    else if (kind === "platform restore" && site.backups.length > 0) restoreSite(site);
    else if (kind === "clone") clone(node);
    else if (kind === "retry") for (const retry of node.process ? node.retry : []) retry();
    else if (kind === "outage") site.current?.process.crash("for a while");
    else return;
    count(kind);
  }

  function restore(node: Node): void {
    const at = dice.int(0, node.backups.length);
    const backup = copyDatabase(node.backups[at]!);
    leave(node, node.backups, at);
    say?.(`${node.name} is restored to ${backup.last}, from ${node.database.last}`);
    node.process?.crash("to be restored");
    node.database = backup;
    node.isForked = true;
    if (dice.chance(0.5)) backup.epoch++;
  }

  /** What is later than this is of the life that is left. */
  function leave(node: Node, kept: unknown[], at: number): void {
    if (kept === node.snapshots || !features.jumps) kept.length = at + 1;
    if (kept === node.backups) node.snapshots = [];
    else node.backups = [];
  }

  /** The whole machine goes back, with what is in memory: nobody opens the database again. */
  function rollBack(node: Node): void {
    const at = dice.int(0, node.snapshots.length);
    const { database, monotonic } = node.snapshots[at]!;
    leave(node, node.snapshots, at);
    // Two lives under one nonce, and a platform that goes back to the first: the entry that would tell them apart may be gone.
    if (features.trims) for (const site of world.sites) site.backups = [];
    say?.(`${node.name} is rolled back to ${database.last}, from ${node.database.last}`);
    node.process?.crash("to be rolled back");
    node.database = copyDatabase(database);
    node.isForked = true;
    startNode(node, { monotonic });
  }

  function clone(node: Node): void {
    const copy = addNode(
      copyDatabase(node.backups.length > 0 && dice.chance(0.3) ? dice.pick(node.backups) : node.database),
      node,
    );
    say?.(`${copy.name} is a copy of ${node.name} at ${copy.database.last}`);
    node.isCloned = node.isForked = true;
    for (const other of world.nodes)
      if (other.database.id === node.database.id) other.isCloned = other.isForked = true;
    scheduler.after(dice.next() * MINUTE, () => startNode(copy));
    every(copy);
  }

  function restoreSite(site: Site): void {
    site.current?.process.crash("to be restored");
    site.database = copyPlatform(dice.pick(site.backups));
    site.isRestored = true;
    say?.(`${site.name} is restored`);
  }

  // The course of things.

  const pace = dice.pick([600, 1500, 4000]);
  function every(node: Node): void {
    scheduler.after(dice.next() * 2 * pace, () => {
      if (isCalm) return;
      act(node);
      every(node);
    });
  }
  function accidents(): void {
    scheduler.after(dice.next() * 20_000, () => {
      if (isCalm) return;
      accident();
      accidents();
    });
  }

  const first = addNode({
    id: newId(),
    epoch: 1,
    nonce: newId(),
    journal: [],
    last: 0,
    runs: new Map(),
    devices: new Map([["d1", { id: "d1", label: "new", samples: [], sampleSeqs: [], thinned: 0 }]]),
    destinations: new Map(),
  });
  append(first, { kind: "device.changed", run: "device:d1", payload: pack({ label: "new" }) });
  const before = dice.chance(0.3) ? dice.int(1, 40) : 0;
  for (let i = 0; i < before; i++)
    if (dice.chance(0.3)) sample(first);
    else
      appendItems(
        first,
        usable(first)[0] ?? createRun(first),
        dice.pick(["metric", "log"]),
        [`b${nextName++}`],
        "b",
        i + 1,
      );
  if (features.trims && dice.chance(0.5)) first.database.journal.splice(0, dice.int(0, before + 1));
  for (let left = dice.chance(0.25) ? 2 : 1; left > 0; left--) {
    addSite();
    first.database.destinations.set(world.sites.at(-1)!.name, {
      state: { epoch: 0, acked: 0, paused: null },
      openings: [],
      answered: null,
      skip: dice.chance(0.2) ? first.database.last : 0,
      dead: new Map(),
      dropped: new Set(),
    });
  }
  startNode(first);
  every(first);
  accidents();
  scheduler.run(dice.int(60, 240) * 1000);

  say?.("all faults stop");
  isCalm = true;
  const calmAt = scheduler.now();
  for (const node of world.nodes) scheduler.after(5 * MINUTE, () => startNode(node));
  for (const site of world.sites) scheduler.after(MINUTE, () => startSite(site));
  scheduler.run(calmAt + 6 * MINUTE);
  scheduler.run(calmAt + 240 * MINUTE, isDrained);
  if (!isDrained())
    violate(
      `I5: not drained ${Math.round((scheduler.now() - calmAt) / MINUTE)} min after the last fault: ${whereabouts()}`,
    );
  else {
    count("drained");
    for (const node of world.nodes) {
      const run = createRun(node);
      appendItems(node, run, "metric", [`fresh${nextName++}`], `fresh${nextName}`, 1);
    }
    const from = scheduler.now();
    scheduler.run(from + 10 * MINUTE, isDrained);
    if (!isDrained()) violate(`I5: a fresh record did not pass: ${whereabouts()}`);
  }
  if (world.violations.length === 0) checkAll(world, violate);
  return world;

  function isDrained(): boolean {
    const ids = new Set(world.nodes.map(({ database }) => database.id));
    return (
      ids.size === world.nodes.length &&
      world.nodes.every(
        ({ database, process }) =>
          process?.isAlive &&
          world.sites.every(({ name, database: { sources } }) => {
            const { state } = database.destinations.get(name)!;
            return (
              sources.get(database.id)?.state.acked === database.last &&
              state.acked === database.last &&
              state.epoch === database.epoch
            );
          }),
      )
    );
  }

  function whereabouts(): string {
    return world.nodes
      .flatMap(({ name, database }) =>
        world.sites.map(({ name: site, database: { sources } }) => {
          const there = sources.get(database.id)?.state;
          return `${name} ${database.epoch}/${database.last} at ${site} ${there?.epoch}/${there?.acked}`;
        }),
      )
      .join("; ");
  }
}

function chooseFeatures(dice: Dice): Features {
  const some = (probability = 0.5) => dice.chance(probability);
  // Two lives under one nonce, of which the platform saw only the second, and a copy of the first: nothing tells them apart.
  const goesBack = dice.pick(["snapshots", "clones", "neither"]);
  return {
    crashes: some() ? dice.pick([0.0005, 0.002, 0.006]) : 0,
    platformCrashes: some() ? dice.pick([0.0005, 0.002, 0.006]) : 0,
    restores: some(0.4),
    snapshots: goesBack === "snapshots",
    platformRestores: some(0.4),
    clones: goesBack === "clones",
    trims: some(0.6),
    cuts: some(0.4),
    imports: some(),
    poison: some(),
    huge: some(0.3),
    futures: some(0.3),
    deletes: some(0.4),
    retries: some(0.3),
    outages: some(),
    smallBodies: some(0.2),
    fills: false,
    jumps: some(0.3),
  };
}

function chooseWeather(dice: Dice): Weather {
  const some = (most: number) => (dice.chance(0.5) ? dice.next() * most : 0);
  return {
    lost: some(0.2),
    replyLost: some(0.2),
    twice: some(0.2),
    refused: some(0.15),
    garbage: some(0.1),
    lies: some(0.1),
    slow: dice.pick([20, 500, 5000, 60_000]),
  };
}
