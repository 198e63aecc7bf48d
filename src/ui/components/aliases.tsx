/** @jsxImportSource hono/jsx */
import { useState } from "hono/jsx";
import type { ArtifactVersion, SetVersion } from "../../artifact/schema.ts";
import { Icon } from "./icon.tsx";

export type OnSetVersion = (version: ArtifactVersion, change: SetVersion) => void;

export interface AliasesProps {
  version: ArtifactVersion;
  /** Without it they are only shown. */
  onSet?: OnSetVersion | undefined;
}

/** Short names that lead to a version. `latest` moves by itself. */
export const Aliases = ({ version, onSet }: AliasesProps) => {
  const [adding, setAdding] = useState(false);
  const name = `${version.name} ${version.version}`;
  const onSubmit = (event: Event) => {
    event.preventDefault();
    const input = (event.target as HTMLFormElement).elements.namedItem("alias") as HTMLInputElement;
    const alias = input.value.trim();
    setAdding(false);
    if (alias !== "" && !version.aliases.includes(alias)) onSet?.(version, { add_aliases: [alias] });
  };
  return (
    <div class="aliases">
      {version.aliases.map((alias) => (
        <span class={alias === "latest" ? "alias latest" : "alias"} key={alias}>
          <bdi title={alias}>{alias}</bdi>
          {onSet && alias !== "latest" && (
            <button
              type="button"
              onClick={() => onSet(version, { remove_aliases: [alias] })}
              aria-label={`Remove the alias ${alias} from ${name}`}
              title="Remove"
            >
              <Icon name="close" size={10} />
            </button>
          )}
        </span>
      ))}
      {onSet && !adding && (
        <button
          class="alias add"
          type="button"
          onClick={(event: Event) => {
            const place = (event.currentTarget as HTMLElement).parentElement;
            setAdding(true);
            requestAnimationFrame(() => place?.querySelector("input")?.focus());
          }}
          aria-label={`Add an alias to ${name}`}
          title="Add an alias; one that another version has moves here"
        >
          <Icon name="plus" size={11} />
        </button>
      )}
      {onSet && adding && (
        <form class="alias-form" onSubmit={onSubmit}>
          <input
            class="field"
            name="alias"
            placeholder="best"
            aria-label={`New alias of ${name}`}
            maxLength={100}
            autocomplete="off"
            spellcheck={false}
            autocapitalize="none"
            onKeyDown={(event: KeyboardEvent) => {
              if (event.key === "Escape") setAdding(false);
            }}
          />
          <button class="button small" type="submit">
            Add
          </button>
        </form>
      )}
    </div>
  );
};
