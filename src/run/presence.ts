import { CollectorError } from "../error.ts";
import type { StopRun } from "./schema.ts";

const SECOND = 1000;
/** A writer whose connection ended may take so long to come back. */
const RECONNECT_WITHIN = 10 * SECOND;
/** An end after so much silence tells of a dead network: a process that dies closes its socket within a millisecond. */
export const SILENT_AFTER = 15 * SECOND;
/** After a restart of ours every writer has to find us again, and their back-off may have grown meanwhile. */
const RETURN_WITHIN = 60 * SECOND;
/** A process that just ended may have its `finish` still on the way. */
const LAST_WORDS_WITHIN = 3 * SECOND;
const GIVE_UP_AFTER = 24 * 3600 * SECOND;
const MAX_CONNECTIONS_PER_WRITER = 4;

/** What is known of one writer's life; times in ms since the epoch. */
export interface Signs {
  connected: boolean;
  /** When its last connection ended; null while connected, and where it never had one. */
  disconnectedAt: number | null;
  lastContact: number;
  /** Since when its process is known to be gone from this machine; null where it lives or cannot be seen. */
  goneSince: number | null;
  /** When we started, where it has not shown itself since and is known to hold heartbeats; else null. */
  awaitedSince: number | null;
}

export type Judgement =
  | { state: "alive" }
  /** Silent for so many ms; nothing can be known. */
  | { state: "contact-lost"; silence: number }
  | { state: "vanished"; reason: string; at: number };

/** What to make of a writer that has not said that it is done. */
export function judgeWriter(signs: Signs, now: number): Judgement {
  const { connected, disconnectedAt, lastContact, goneSince, awaitedSince } = signs;
  const silence = now - lastContact;
  if (goneSince !== null && now - goneSince >= LAST_WORDS_WITHIN)
    return vanished("Its process ended without saying so (killed, or crashed).", lastContact);
  if (silence >= GIVE_UP_AFTER) return vanished("No contact for 24 hours.", lastContact);
  if (awaitedSince !== null)
    return now - awaitedSince >= RETURN_WITHIN
      ? vanished("It did not come back after the collector was restarted.", lastContact)
      : { state: "alive" };
  if (connected) return silence >= SILENT_AFTER ? { state: "contact-lost", silence } : { state: "alive" };
  if (disconnectedAt === null) return { state: "alive" };
  if (disconnectedAt - lastContact >= SILENT_AFTER) return { state: "contact-lost", silence };
  return now - Math.max(disconnectedAt, lastContact) >= RECONNECT_WITHIN
    ? vanished(
        "Its connection ended without a finish (killed, or crashed).",
        Math.max(disconnectedAt, lastContact),
      )
    : { state: "alive" };
}

const vanished = (reason: string, at: number): Judgement => ({ state: "vanished", reason, at });

/** One heartbeat connection, as the edge that holds it sees it. */
export interface Heartbeat {
  stop(request: StopRun): void;
}

export interface WriterProcess {
  pid: number | null;
  boot: string | null;
}

interface WriterState extends Signs {
  heartbeats: Set<Heartbeat>;
  /** Its pid, where we have seen that process on this machine: the same number in a container means another process. */
  witnessed: number | null;
}

interface RunState {
  lastContact: number;
  /** Writers taken for dead while others go on, or with the run, which was taken up again. */
  lost: Set<string>;
  writerByClient: Map<string, WriterState>;
}

/** A writer, or with client null a run that no writer is known of, that is taken for dead. */
export interface Verdict {
  run: string;
  client: string | null;
  reason: string;
  at: number;
}

/** Who is there. In memory alone: after a restart everybody is given time to show themselves. */
export interface Presence {
  /** A run goes on: it is watched from now. */
  watch(run: string): void;
  /** A writer takes part. `restored`: it was there before we were restarted. */
  join(run: string, client: string, process: WriterProcess, restored?: boolean): void;
  /** A writer has said that it is done; `presumed`: it was taken for dead. */
  leave(run: string, client: string, presumed: boolean): void;
  /** A run ended; `presumed`: on our own conclusion, so that later data reopens it. */
  end(run: string, presumed: boolean): void;
  /** Something came from this writer. True where it or its run was taken for dead: the caller reopens the run. */
  contact(run: string, client: string): boolean;
  /** Opens a heartbeat; returns the function that ends it. */
  connect(run: string, client: string, heartbeat: Heartbeat): () => void;
  isConnected(run: string, client: string): boolean;
  /** Those of a run that goes on who take part. */
  writers(run: string): string[];
  /** Those who were taken for dead, and have not shown themselves since. */
  lost(run: string): string[];
  /** Asks every connected writer of the run to stop; returns how many heard it. */
  stop(run: string, request: StopRun): number;
  /** Seconds without contact where that is all we know; else null. */
  silence(run: string): number | null;
  /** Those to be taken for dead now. */
  review(): Verdict[];
}

export interface PresenceOptions {
  now: () => number;
  /** Identity of this boot of this machine; undefined where there is none to be had. */
  boot?: string | undefined;
  isProcessAlive?: (pid: number) => boolean;
}

export function createPresence({ now, boot, isProcessAlive = () => true }: PresenceOptions): Presence {
  const stateByRun = new Map<string, RunState>();
  /** Runs taken for dead, each with those of its writers that were. */
  const presumed = new Map<string, Set<string>>();

  function watch(run: string): RunState {
    let state = stateByRun.get(run);
    if (!state)
      stateByRun.set(
        run,
        (state = {
          lastContact: now(),
          lost: presumed.get(run) ?? new Set(),
          writerByClient: new Map(),
        }),
      );
    presumed.delete(run);
    return state;
  }

  function join(run: string, client: string, process: WriterProcess, restored = false): WriterState {
    const state = watch(run);
    const time = now();
    const { pid } = process;
    const isHere = pid !== null && boot !== undefined && process.boot === boot && isProcessAlive(pid);
    const writer: WriterState = {
      connected: false,
      disconnectedAt: null,
      lastContact: time,
      goneSince: null,
      // Our clients give their pid and hold heartbeats; whoever speaks plain HTTP is not expected to.
      awaitedSince: restored && pid !== null ? time : null,
      heartbeats: new Set(),
      witnessed: isHere ? pid : null,
    };
    state.writerByClient.set(client, writer);
    state.lost.delete(client);
    state.lastContact = time;
    return writer;
  }

  const find = (run: string, client: string) => stateByRun.get(run)?.writerByClient.get(client);

  function lookForProcess(writer: WriterState, time: number): void {
    if (writer.witnessed === null) return;
    if (isProcessAlive(writer.witnessed)) writer.goneSince = null;
    else writer.goneSince ??= time;
  }

  return {
    watch: (run) => void watch(run),
    join: (run, client, process, restored) => void join(run, client, process, restored),
    leave(run, client, isPresumed) {
      const state = stateByRun.get(run);
      state?.writerByClient.delete(client);
      if (isPresumed) state?.lost.add(client);
    },
    end(run, isPresumed) {
      const lost = stateByRun.get(run)?.lost ?? presumed.get(run);
      stateByRun.delete(run);
      if (isPresumed) presumed.set(run, lost ?? new Set());
      else presumed.delete(run);
    },
    contact(run, client) {
      const state = stateByRun.get(run);
      if (!state) return presumed.has(run);
      const time = now();
      state.lastContact = time;
      const writer = state.writerByClient.get(client);
      if (writer) {
        writer.lastContact = time;
        writer.awaitedSince = null;
      }
      return state.lost.has(client);
    },
    connect(run, client, heartbeat) {
      const writer = find(run, client) ?? join(run, client, { pid: null, boot: null });
      if (writer.heartbeats.size >= MAX_CONNECTIONS_PER_WRITER)
        throw new CollectorError(
          "busy",
          `Client ${client} already holds ${writer.heartbeats.size} heartbeats.`,
          {
            hint: "Close the others: one is enough.",
          },
        );
      const held = { stop: (request: StopRun) => heartbeat.stop(request) };
      writer.heartbeats.add(held);
      writer.connected = true;
      writer.disconnectedAt = null;
      writer.awaitedSince = null;
      writer.lastContact = now();
      return () => {
        if (!writer.heartbeats.delete(held) || writer.heartbeats.size > 0) return;
        writer.connected = false;
        writer.disconnectedAt = now();
      };
    },
    isConnected: (run, client) => find(run, client)?.connected ?? false,
    writers: (run) => [...(stateByRun.get(run)?.writerByClient.keys() ?? [])],
    lost: (run) => [...(stateByRun.get(run)?.lost ?? presumed.get(run) ?? [])],
    stop(run, request) {
      let heard = 0;
      for (const writer of stateByRun.get(run)?.writerByClient.values() ?? [])
        for (const heartbeat of writer.heartbeats) {
          heartbeat.stop(request);
          heard++;
        }
      return heard;
    },
    silence(run) {
      const state = stateByRun.get(run);
      if (!state) return null;
      let longest: number | null = null;
      for (const writer of state.writerByClient.values()) {
        const judgement = judgeWriter(writer, now());
        if (judgement.state === "alive") return null;
        if (judgement.state === "contact-lost") longest = Math.max(longest ?? 0, judgement.silence);
      }
      return longest === null ? null : Math.floor(longest / SECOND);
    },
    review() {
      const time = now();
      const verdicts: Verdict[] = [];
      for (const [run, state] of stateByRun) {
        for (const [client, writer] of state.writerByClient) {
          lookForProcess(writer, time);
          const judgement = judgeWriter(writer, time);
          if (judgement.state === "vanished")
            verdicts.push({ run, client, reason: judgement.reason, at: judgement.at });
        }
        if (state.writerByClient.size === 0 && time - state.lastContact >= GIVE_UP_AFTER)
          verdicts.push({ run, client: null, reason: "No contact for 24 hours.", at: state.lastContact });
      }
      return verdicts;
    },
  };
}
