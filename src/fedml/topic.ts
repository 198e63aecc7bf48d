import type { Collector } from "../collector.ts";
import type { FedmlCounts } from "./counts.ts";
import type { FedmlKeys, FedmlScope } from "./keys.ts";
import type { FedmlWriter } from "./writer.ts";

/** One message of a FedML client, as the broker hands it on. */
export interface FedmlMessage {
  topic: string;
  /** What each + of the filter stood for, in order. */
  match: string[];
  /** Whose user and password it came by. */
  scope: FedmlScope;
  /** JSON with exact large integers; undefined where the body was empty. */
  payload: unknown;
  /** When it came, ms since the epoch. */
  received: number;
  /** The client says that it may have come before: what that one left in the database is to be looked for there. */
  again: boolean;
  /** MQTT client id. */
  client: string;
}

/** What becomes of the messages of some topics. */
export interface FedmlTopic {
  /** MQTT filter; + stands for one level. */
  filter: string;
  /**
   * Resolves when all is durable: only then the client is answered. A CollectorError that blames the message, or a mistake of ours
   * (TypeError), is counted and the message answered, since sending it again would not help; any other error ends the connection,
   * and the client sends it again.
   */
  receive(message: FedmlMessage): Promise<void>;
}

/** What a topic may need. */
export interface FedmlContext {
  collector: Collector;
  writer: FedmlWriter;
  counts: FedmlCounts;
  keys: FedmlKeys;
}

export interface MatchedTopic {
  topic: FedmlTopic;
  match: string[];
}

/** Finds who is to have a message: filters without + are looked up, the few others tried one after another. */
export function createTopicTable(topics: readonly FedmlTopic[]): (topic: string) => readonly MatchedTopic[] {
  const exact = new Map<string, MatchedTopic[]>();
  const patterns: { levels: string[]; topic: FedmlTopic }[] = [];
  for (const topic of topics) {
    const { filter } = topic;
    if (filter.includes("+")) patterns.push({ levels: filter.split("/"), topic });
    else exact.set(filter, [...(exact.get(filter) ?? []), { topic, match: [] }]);
  }
  return (name) => {
    const found = exact.get(name);
    if (found) return found;
    const levels = name.split("/");
    const matched: MatchedTopic[] = [];
    for (const { levels: filter, topic } of patterns) {
      const match = matchLevels(filter, levels);
      if (match) matched.push({ topic, match });
    }
    return matched;
  };
}

function matchLevels(filter: readonly string[], levels: readonly string[]): string[] | undefined {
  if (filter.length !== levels.length) return undefined;
  const match: string[] = [];
  for (let i = 0; i < filter.length; i++) {
    if (filter[i] === "+") match.push(levels[i]!);
    else if (filter[i] !== levels[i]) return undefined;
  }
  return match;
}
