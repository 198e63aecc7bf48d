import { hostname } from "node:os";
import { isDeepStrictEqual } from "node:util";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { VERSION } from "../version.ts";
import type { DeliveryStatus } from "./deliver.ts";
import { createDestinations, holderOf, skipOf, type Destination } from "./destinations.ts";
import { createDiagnosis } from "./diagnose.ts";
import { countByReason, countDropped, forgetRemoved, listDrops, putDropOfDestination } from "./drops.ts";
import { startPlatformLane, type Lane } from "./lane.ts";
import { createLetterBox } from "./letters.ts";
import { shownAddress } from "./fedml/address.ts";
import { startFedmlLane } from "./fedml/lane.ts";
import { startOtlpLane } from "./otlp/lane.ts";
import type { AddRelay, DeadLetterPage, Relay, RelayList, SettleDeadLetters } from "./schema.ts";
import { checkDestination } from "./spoken.ts";

/** Where what is recorded here goes on to. */
export interface Relays {
  status(): RelayList;
  /** A destination that is there under this address gets the new token. */
  add(relay: AddRelay): Promise<{ created: boolean; relay: Relay }>;
  /** The same at a start, for one that is known by its address; `name`: of one that is new. It gets no token that is another's. */
  addAddress(relay: Omit<AddRelay, "name"> & { name?: string }): Promise<Relay>;
  /**
   * Refuses while something has not arrived, unless it may be given up. Returns which entries only history could still have brought:
   * the journal no longer has them, and nobody has counted what they said.
   */
  remove(name: string, options: { discard: boolean }): Promise<HistoryLeft | null>;
  retry(name: string): Relay;
  deadLetters(name: string, query: { limit: number; after?: number | undefined }): DeadLetterPage;
  settle(name: string, input: SettleDeadLetters): Promise<number>;
  /** What the destinations' counters stand at. */
  totals(name: string): { entries: number; errors: number };
  /** Records that will never arrive, by reason. */
  dropped(name: string): ReadonlyMap<string, number>;
  close(): Promise<void>;
}

/** Seqs, both included. */
export interface HistoryLeft {
  from: number;
  to: number;
}

export interface RelaysOptions {
  /** A line for whoever runs the collector: when a destination gets into trouble, and when it is out of it. */
  onDiagnostic: (text: string) => void;
  onFailed: (error: unknown) => void;
}

const MAX_DESTINATIONS = 32;

const STARTERS = { platform: startPlatformLane, otlp: startOtlpLane, fedml: startFedmlLane };

export function createRelays(collector: Collector, { onDiagnostic, onFailed }: RelaysOptions): Relays {
  const { connection, dataDir, installation, now } = collector;
  const destinations = createDestinations(connection, dataDir);
  // Who receives from others comes first: a circle leads through such alone, and a path has an end.
  const selectPaths = connection
    .prepare("SELECT path FROM source ORDER BY min(json_array_length(path), 2) DESC, last_seen DESC")
    .raw(true);
  const laneByName = new Map<string, Lane>();
  const diagnosis = createDiagnosis(onDiagnostic);
  let closing = false;

  for (const destination of destinations.list()) startLane(destination);

  function startLane(destination: Destination): void {
    const { name } = destination;
    const start = STARTERS[destination.kind];
    laneByName.set(
      name,
      start({
        collector,
        destination,
        destinations,
        path,
        facts: { host: hostname().slice(0, 255), version: VERSION },
        onChange: (status) => diagnosis.tell(name, status),
        onFailed,
      }),
    );
  }

  /** Ours first, then those that relay here, and theirs. */
  function path(): string[] {
    const sources = (selectPaths.all() as [string][]).flatMap(([json]) => JSON.parse(json) as string[]);
    return [...new Set([installation.id, ...sources])];
  }

  function get(name: string): { destination: Destination; lane: Lane } {
    const destination = destinations.get(name);
    const lane = laneByName.get(name);
    if (!destination || !lane)
      throw new CollectorError("not-found", `There is no destination ${name}.`, {
        hint: "See `binnacle relay status` for those there are.",
      });
    return { destination, lane };
  }

  function toRelay({ name, kind, url, from, created, acked, epoch }: Destination): Relay {
    const lane = laneByName.get(name)!;
    const { state, error, notice, attempts, nextTryAt, history } = lane.status();
    const { entries, bytes, oldest } = lane.backlog();
    const trouble = (of: DeliveryStatus["error"]) => of && { ...of, at: time(of.at)! };
    return {
      name,
      kind,
      url: shownAddress(url),
      from,
      created: time(created)!,
      state,
      error: trouble(error),
      notice: trouble(notice),
      attempts,
      next_try_at: time(nextTryAt),
      epoch,
      acked,
      acked_at: time(lane.ackedAt()),
      backlog: { entries, bytes: bytes ?? null, oldest: time(oldest) },
      rate: lane.rate() ?? null,
      history,
      content: lane.content() ?? null,
      dead_letters: createLetterBox(collector, name).count(),
      dropped: countDropped(connection, name),
    };
  }

  async function add({ name, url: given, from: wanted, token: said, ca, insecure_http }: AddRelay) {
    const { kind, url: whole } = checkDestination(given, { insecureHttp: insecure_http });
    const url = shownAddress(whole);
    // FedML's protocol has none.
    const token = kind === "fedml" ? undefined : said;
    const known = destinations.get(name);
    const kept = destinations.secretsOf(name);
    // Of one that is gone, as by a restore, they are not for another address.
    const before = known ? kept : {};
    const secrets = {
      ...before,
      ...(token !== undefined && { token }),
      ...(ca !== undefined && { ca }),
      ...(url !== whole && { url: whole }),
    };
    // One whose secret is lost gets it again.
    if (known && ![whole, url].includes(destinations.addressOf(known)))
      throw new CollectorError(
        "conflict",
        `There is a destination ${name} already, at ${shownAddress(known.url)}.`,
        {
          hint:
            kind === "platform"
              ? `If the platform has moved: \`binnacle relay remove ${name} --discard\`, then add it at its new address, and it goes on where it was. Else choose another name.`
              : `Choose another name, or remove that one first: \`binnacle relay remove ${name}\`.`,
        },
      );
    if (!known && laneByName.size >= MAX_DESTINATIONS)
      throw new CollectorError("conflict", `There are ${MAX_DESTINATIONS} destinations already.`, {
        hint: "Remove one that is not needed any more.",
      });
    const owner = ownerOf(token, { name, kind, url });
    if (owner)
      throw new CollectorError("conflict", `The token that is given for ${name} is that of ${owner.name}.`, {
        hint: `Give its own, or none, not even in $BINNACLE_RELAY_TOKEN${known ? `: ${name} keeps what it has` : ""}.`,
      });
    const isRenewed = known && token !== undefined && kept.token !== undefined && kept.token !== token;
    // The token first: a row without one would be refused, and say so.
    if (!isDeepStrictEqual(secrets, kept)) destinations.setSecrets(name, secrets);
    else if (known) return { created: false, relay: toRelay(known) };
    if (!known) {
      // A backend that draws what is now has little use for what was.
      const from = wanted ?? (kind === "platform" ? "history" : "now");
      const skip = skipOf({ kind, from }, collector.journal);
      destinations.add({ name, kind, url, from, created: now(), skip });
      forgetRemoved(connection, { name, skip });
      if (kind === "fedml")
        onDiagnostic(
          `relay ${name}: FedML's MQTT is without TLS, and what goes into its storage can be read by all.`,
        );
    }
    if (isRenewed) onDiagnostic(`relay ${name}: it has another token from now on.`);
    await laneByName.get(name)?.close();
    if (!closing) startLane(destinations.get(name)!);
    return { created: !known, relay: toRelay(destinations.get(name)!) };
  }

  /** A token is for one platform: a variable that was left set must not carry it to another one. Nobody's that has it already. */
  function ownerOf(
    token: string | undefined,
    { name, kind, url }: Pick<Destination, "name" | "kind" | "url">,
  ): Destination | undefined {
    if (token === undefined || (destinations.get(name) && destinations.secretsOf(name).token === token))
      return undefined;
    return destinations
      .list()
      .find(
        (other) =>
          other.url !== url &&
          (kind === "platform" || other.kind === "platform") &&
          destinations.secretsOf(other.name).token === token,
      );
  }

  async function addAddress(relay: Omit<AddRelay, "name"> & { name?: string }): Promise<Relay> {
    const { kind, url } = checkDestination(relay.url, { insecureHttp: relay.insecure_http });
    const all = destinations.list();
    const known = [url, shownAddress(url)]
      .map((at) => all.find((destination) => destinations.addressOf(destination) === at))
      .find((found) => found !== undefined);
    const name = known?.name ?? relay.name ?? nameOf(url, new Set(all.map(({ name }) => name)));
    const { token, ...rest } = relay;
    const owner = kind === "fedml" ? undefined : ownerOf(token, { name, kind, url });
    if (owner)
      onDiagnostic(
        `relay ${name}: the token that is given is that of ${owner.name}, and does not go there. Set $BINNACLE_RELAY_TOKEN to its own, or unset it.`,
      );
    return (await add({ ...rest, name, ...(token !== undefined && !owner && { token }) })).relay;
  }

  /** What is gone of the journal, and has not arrived otherwise. */
  function historyLeft({ kind, acked, skip }: Destination): HistoryLeft | null {
    const from = Math.max(acked, skip) + 1;
    const to = collector.journal.bounds().first - 1;
    return kind !== "otlp" && from <= to ? { from, to } : null;
  }

  async function remove(name: string, { discard }: { discard: boolean }): Promise<HistoryLeft | null> {
    const { destination, lane } = get(name);
    const history = historyLeft(destination);
    const { entries, bytes } = lane.backlog();
    const dead = createLetterBox(collector, name);
    const letters = dead.count();
    const content = lane.content();
    if (!discard && (entries > 0 || letters > 0 || (content?.files ?? 0) > 0))
      throw new CollectorError("conflict", `${name} has not got everything yet: ${waiting()}.`, {
        hint: "Wait for it, or give that up with --discard (?discard=true).",
        details: {
          entries,
          bytes: bytes ?? null,
          dead_letters: letters,
          files: content?.files ?? null,
          history,
        },
      });
    laneByName.delete(name);
    await lane.close();
    dead.discard();
    destinations.remove(name, () => putDropOfDestination(connection, destination, now()));
    destinations.setSecrets(name, undefined);
    collector.journal.hold(holderOf(name), undefined);
    diagnosis.forget(name);
    return history;

    function waiting(): string {
      const parts = [
        entries > 0 &&
          `${plural(entries, "entry", "entries")}${bytes === undefined ? "" : ` (${bytes} bytes)`}`,
        history && "among them what is kept of before",
        letters > 0 && plural(letters, "dead letter", "dead letters"),
        content?.files && `${plural(content.files, "file", "files")} (${content.bytes} bytes)`,
      ];
      return parts.filter((part) => part).join(", ");
    }
  }

  return {
    status: () => ({
      installation: { id: installation.id, epoch: installation.epoch },
      relays: destinations
        .list()
        .filter(({ name }) => laneByName.has(name))
        .map(toRelay),
      drops: listDrops(connection),
    }),
    add,
    addAddress,
    remove,
    retry(name) {
      const { destination, lane } = get(name);
      lane.retry();
      return toRelay(destination);
    },
    deadLetters(name, { limit, after }) {
      get(name);
      const page = createLetterBox(collector, name).list(limit + 1, after);
      const shown = page.slice(0, limit);
      return { dead_letters: shown, next: page.length > limit ? String(shown.at(-1)!.id) : null };
    },
    async settle(name, { action, letters }) {
      const { lane } = get(name);
      return action === "requeue" ? lane.requeue(letters) : createLetterBox(collector, name).discard(letters);
    },
    totals: (name) => get(name).lane.totals(),
    dropped: (name) => countByReason(connection, name),
    async close() {
      closing = true;
      await Promise.all([...laneByName.values()].map((lane) => lane.close()));
    },
  };
}

/** "platform.example.org", with the port where that name is another's. */
function nameOf(address: string, taken: ReadonlySet<string>): string {
  const { hostname, port } = new URL(address);
  const host =
    hostname
      .replaceAll(/[^A-Za-z0-9._-]+/g, "-")
      .replace(/^[^A-Za-z0-9]+/, "")
      .slice(0, 50) || "platform";
  const names = [host, ...(port === "" ? [] : [`${host}-${port}`])];
  for (let count = 2; ; count++) {
    const free = names.find((name) => !taken.has(name));
    if (free !== undefined) return free;
    names.push(`${host}-${count}`);
  }
}

const plural = (count: number, one: string, many: string) => `${count} ${count === 1 ? one : many}`;

const time = (ms: number | null | undefined): string | null =>
  ms === null || ms === undefined ? null : new Date(ms).toISOString();
