import type { Frame, Part } from "../contract.ts";
import { deliverAbroad, RefusedOne } from "../foreign.ts";
import { historyOf, historyParts } from "../history.ts";
import { createHttp, printable, type Dialect, type Http, type HttpOptions } from "../http.ts";
import { createClock, type Lane, type LaneOptions } from "../lane.ts";
import { createLetterBox } from "../letters.ts";
import { createOutbox } from "../outbox.ts";
import { Refusal, type DeadLetter } from "../ports.ts";
import { createReport } from "../report.ts";
import { requeueAbroad } from "../requeue-abroad.ts";
import { readFedmlAddress, secretOfAddress } from "./address.ts";
import { createConfigs } from "./configs.ts";
import { putLeft, putLeftPart } from "./drops.ts";
import { postsOf, type Post } from "./logs.ts";
import { createPositions } from "./positions.ts";
import { createPoster } from "./poster.ts";
import {
  createMachines,
  endingsOf,
  prepare,
  sharesOf,
  speaks,
  whyLeft,
  type Prepared,
  type Signal,
} from "./prepare.ts";
import { createPublisher, publicationOf, type Publication } from "./publisher.ts";
import { createUploadQueue } from "./queue.ts";
import { createStorage, readStorageRefusal, type Storage } from "./storage.ts";
import { startUploads } from "./uploads.ts";

/** `of`: the place of the entry that lines are of. */
type Body = { publication: Publication } | { post: Post; of: number };

const MAX_ANSWER_BYTES = 1024 * 1024;

/** Said of anything: the address is wrong. */
const HINTS: Record<number, string> = {
  401: "Is the address right, with the secret in it where it has one?",
  403: "Is the address right, with the secret in it where it has one?",
  404: "Is it the address of a FedML platform? /fedmlOpsServer/configs/fetch is looked for below it.",
  405: "Is it the address of a FedML platform? /fedmlOpsServer/configs/fetch is looked for below it.",
};

/** What goes on for one platform of FedML's protocol: the journal in its words, at least once, and files beside it. */
export function startFedmlLane(options: Omit<LaneOptions, "path" | "facts">): Lane {
  const { collector, destination, destinations, onChange, onFailed } = options;
  const { connection, journal, blobs, now } = collector;
  const { name } = destination;
  const address = destinations.addressOf(destination);
  const url = readFedmlAddress(address);
  const { ca } = destinations.secretsOf(name);
  const ways = { ca, hidden: secretOfAddress(address) };
  const ending = new AbortController();
  const clock = createClock(now);
  const report = createReport({ collector, destination, clock, onChange, onFailed });
  const letters = createLetterBox(collector, name);
  const machines = createMachines(collector);
  const queue = createUploadQueue(collector, name);
  const configs = createConfigs({
    http: httpTo(url, ways),
    url,
    now,
    monotonic: clock.monotonic,
  });
  const post = createPoster(configs, (to) => httpTo(to, ways));
  const publisher = createPublisher({ configs });
  // A connection of its own: neither waits for the other.
  const announcer = createPublisher({ configs });
  const since = destination.from === "now" ? destination.created : undefined;
  const outbox = createOutbox({
    collector,
    destination: name,
    history: {
      parts: (runs) => historyParts(collector, runs, since),
      of: (part, from, bounds, single = false) => historyOf(collector, part, from, bounds, { single }),
    },
    maxHeldBytes: collector.quota.journalBytes(),
    onAcked: report.onAcked,
  });

  const uploads = startUploads(
    {
      queue,
      blobs,
      storage: createStorages(configs.get, (to) => httpTo(to, ways, readStorageRefusal), now),
      publish(messages) {
        const publication = publicationOf(() => messages.map((message) => ({ ...message, of: 0 })));
        return (signal) => announcer.publish(publication, signal);
      },
      onFailed: configs.forget,
      bury: (letter) => letters.put(letter, outbox.state().epoch),
      clock,
      random: Math.random,
    },
    ending.signal,
  );

  const delivery = report.persist(
    () =>
      deliverAbroad<Signal, Prepared, Body>(
        {
          outbox,
          first: () => journal.bounds().first,
          // History stands in.
          onCut() {},
          history: { positions: createPositions(collector, name), takes, endings: endingsOf },
          onRejected() {},
          prepare(frames) {
            const { prepared, unreadable } = prepareAll(frames);
            return { shares: sharesOf(prepared), unreadable };
          },
          speaks,
          encode,
          hello: publisher.open,
          send,
          onTaken: (frames) => onTaken(frames),
          hints: HINTS,
          clock,
          random: Math.random,
          onChange: report.change,
        },
        ending.signal,
      ),
    ending.signal,
  );

  function prepareAll(frames: readonly Frame[]): { prepared: Prepared[]; unreadable: DeadLetter[] } {
    const prepared: Prepared[] = [];
    const unreadable: DeadLetter[] = [];
    for (const frame of frames)
      try {
        prepared.push(prepare(frame, machines));
      } catch (error) {
        const detail = printable(error instanceof Error ? error.message : String(error), 500);
        unreadable.push({ frame, type: "unreadable", detail });
      }
    return { prepared, unreadable };
  }

  async function send(_: Signal, body: Body, signal: AbortSignal): Promise<typeof TAKEN> {
    try {
      if ("post" in body) await post(body.post, signal);
      else await publisher.publish(body.publication, signal);
    } catch (error) {
      // It may have moved, or have other keys.
      configs.forget();
      throw "post" in body && error instanceof Refusal ? new RefusedOne(body.of, error) : error;
    }
    return TAKEN;
  }

  /** Of old readings a platform would not know when they were, or draw them as of now. */
  function takes(part: Part): boolean {
    if (part.of !== "samples") return true;
    putLeftPart(connection, { name, device: part.device, at: now() });
    return false;
  }

  /** In one transaction with the cursor: else a version would be lost between its note and its row, and drops counted twice. */
  function onTaken(frames: readonly Frame[], put = queue.putOnce): void {
    const left = new Map<string, Frame[]>();
    for (const frame of frames) {
      if (isVersion(frame)) put(frame);
      const why = whyLeft(frame);
      if (why !== undefined) left.set(why, [...(left.get(why) ?? []), frame]);
    }
    for (const [reason, of] of left) putLeft(connection, { name, frames: of, reason, at: now() });
    if (frames.some(isVersion)) uploads.wake();
  }

  /** Why not; undefined: it has arrived, or its files wait to be sent. */
  async function sendAgain(frame: Frame): Promise<string | undefined> {
    const { prepared, unreadable } = prepareAll([frame]);
    if (unreadable[0]) return unreadable[0].detail;
    for (const { signal, prepared: of } of sharesOf(prepared))
      for (const body of encode(signal, of)) await insist(signal, body);
    onTaken([frame], queue.put);
    return undefined;
  }

  /** What the broker hangs up on is sent until it is known whether that is about it. */
  async function insist(of: Signal, body: Body): Promise<void> {
    const publication = "publication" in body ? body.publication : undefined;
    for (;;) {
      const { done, strikes } = publication ?? { done: 0, strikes: 0 };
      try {
        await send(of, body, ending.signal);
        return;
      } catch (error) {
        const isHungUp = publication && (publication.done !== done || publication.strikes !== strikes);
        if (!isHungUp || error instanceof RefusedOne) throw error;
      }
    }
  }

  return {
    ...report,
    backlog: outbox.backlog,
    content: uploads.status,
    retry() {
      configs.forget();
      clock.wake();
      uploads.wake();
    },
    requeue: (ids) => requeueAbroad({ letters, ids, name, sendAgain }),
    async close() {
      ending.abort();
      await delivery;
      await uploads.ended;
      publisher.close();
      announcer.close();
      outbox.close();
    },
  };
}

const isVersion = ({ kind }: Frame) => kind === "artifact.logged" || kind === "artifact.held";

const TAKEN = { rejected: 0, message: "" };

function encode(signal: Signal, prepared: readonly Prepared[]): Body[] {
  if (signal === "logs")
    return prepared.flatMap(({ frame, lines }, of) =>
      [...postsOf(frame.run, lines, frame.time)].map((post) => ({ post, of })),
    );
  function* messages() {
    for (const [of, { messages }] of prepared.entries())
      for (const message of messages?.() ?? []) yield { ...message, of };
  }
  return [{ publication: publicationOf(messages) }];
}

const noWords = () => undefined;

/** Without a token: FedML's platform asks for none, and ours are nobody else's. */
function httpTo(
  url: string,
  ways: Pick<HttpOptions, "ca" | "hidden">,
  readRefusal: Dialect["readRefusal"] = noWords,
): Http {
  const dialect = { root: "", accept: "*/*", maxAnswerBytes: MAX_ANSWER_BYTES, readRefusal };
  return createHttp({ url, ...ways, token: () => undefined, dialect });
}

/** The storage that the platform names, the same one as long as it does. */
function createStorages(
  get: ReturnType<typeof createConfigs>["get"],
  httpOf: (url: string) => Http,
  now: () => number,
): (signal: AbortSignal) => Promise<Storage> {
  let known: { of: string; storage: Storage } | undefined;
  return async (signal) => {
    const { storage: config } = await get(signal);
    const of = JSON.stringify(config);
    if (known?.of !== of) known = { of, storage: createStorage({ config, http: httpOf(config.url), now }) };
    return known.storage;
  };
}
