import { isDeepStrictEqual } from "node:util";
import type { EditedVersion } from "../store/source-edit.ts";

/** What a source says of a version; `isWhole`: all aliases that lead to it are named. */
export interface Statement {
  description: string | null;
  metadata: Record<string, unknown>;
  aliases: readonly string[];
  isWhole: boolean;
}

/** What of it is new here. */
export interface News {
  description?: string | null;
  metadata?: Record<string, unknown>;
  add: string[];
  /** Aliases that no longer lead to it; undefined: all others. */
  remove: string[] | undefined;
  edited: EditedVersion;
}

/** What it said before a person changed it here is nothing new, however often it says so; something else is a change of its own. */
export function newsOf(before: EditedVersion, { description, metadata, aliases, isWhole }: Statement): News {
  const edited = { ...before };
  const news: News = { add: [...aliases], remove: isWhole ? undefined : [], edited };
  if (edited.description === undefined || edited.description !== description) {
    news.description = description;
    delete edited.description;
  }
  if (edited.metadata === undefined || !isDeepStrictEqual(edited.metadata, metadata)) {
    news.metadata = metadata;
    delete edited.metadata;
  }
  const { aliases: known } = edited;
  if (known) {
    news.add = aliases.filter((alias) => !known.includes(alias));
    news.remove = isWhole ? known.filter((alias) => !aliases.includes(alias)) : [];
    edited.aliases = isWhole ? [...aliases] : [...known, ...news.add];
  }
  return news;
}

/** After a change that its source itself has made. */
export function changedThere(
  before: EditedVersion,
  change: {
    description?: string | null | undefined;
    metadata?: Record<string, unknown> | undefined;
    add_aliases: readonly string[];
    remove_aliases: readonly string[];
  },
): EditedVersion {
  const { description, metadata, aliases } = before;
  return {
    ...(description !== undefined && change.description === undefined && { description }),
    ...(metadata !== undefined && change.metadata === undefined && { metadata }),
    ...(aliases && {
      aliases: [...new Set([...aliases, ...change.add_aliases])].filter(
        (alias) => !change.remove_aliases.includes(alias),
      ),
    }),
  };
}
