import { type AnyCommand, type Flags, defineCommand, helpFlag, idleConnectionFlags } from "./command.ts";
import { UsageError } from "./error.ts";
import { print } from "./output.ts";

export const command = defineCommand({
  name: "completion",
  usage: "bash|zsh|fish",
  maxPositionals: 1,
  summary: "Print completions for a shell.",
  flags: { ...idleConnectionFlags },
  examples: [
    ["completion bash > ~/.local/share/bash-completion/completions/binnacle", "install them for bash"],
    ['completion zsh > "${fpath[1]}/_binnacle"', "install them for zsh"],
    ["completion fish > ~/.config/fish/completions/binnacle.fish", "install them for fish"],
  ],
  async run({ positionals: [shell], loadCommands }) {
    const script = shell === undefined ? undefined : scriptByShell[shell];
    if (!script) throw new UsageError("Say for which shell: bash, zsh or fish.", "completion");
    await print(script((await loadCommands()).map(toEntry)));
    return 0;
  },
});

interface Entry {
  words: string[];
  summary: string;
  flags: { name: string; short: string | undefined; takesValue: boolean; help: string }[];
}

function toEntry({ name, summary, flags }: AnyCommand): Entry {
  const all: Flags = { ...flags, ...helpFlag };
  const shown = Object.entries(all).filter(([, { hidden }]) => !hidden);
  return {
    words: name.split(" "),
    summary,
    flags: shown.map(([flag, { short, type, help }]) => ({
      name: flag,
      short,
      takesValue: type === "string",
      help,
    })),
  };
}

const scriptByShell: Record<string, (entries: Entry[]) => string> = { bash, zsh, fish };

/** First words, and the second words of groups such as `run`. */
function wordsOf(entries: Entry[]): { first: string[]; secondByFirst: Map<string, string[]> } {
  const secondByFirst = new Map<string, string[]>();
  for (const { words } of entries) {
    const second = secondByFirst.get(words[0]!) ?? [];
    secondByFirst.set(words[0]!, words[1] === undefined ? second : [...second, words[1]]);
  }
  return { first: [...secondByFirst.keys()], secondByFirst };
}

const flagWords = ({ flags }: Entry) => flags.map(({ name }) => `--${name}`).join(" ");

function bash(entries: Entry[]): string {
  const { first, secondByFirst } = wordsOf(entries);
  const groups = [...secondByFirst].filter(([, second]) => second.length > 0);
  return `# Completions of binnacle for bash.
_binnacle() {
  local current="\${COMP_WORDS[COMP_CWORD]}" command="\${COMP_WORDS[1]}" words
  COMPREPLY=()
  # What stands behind -- is another command's.
  local index
  for ((index = 1; index < COMP_CWORD; index++)); do
    [[ "\${COMP_WORDS[index]}" == -- ]] && { compopt -o default; return; }
  done
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W "${first.join(" ")}" -- "$current"))
    return
  fi
  case "$command" in
${groups.map(([word, second]) => `    ${word}) if ((COMP_CWORD == 2)); then COMPREPLY=($(compgen -W "${second.join(" ")}" -- "$current")); return; fi; command="$command \${COMP_WORDS[2]}" ;;`).join("\n")}
  esac
  case "$command" in
${entries.map((entry) => `    "${entry.words.join(" ")}") words="${flagWords(entry)}" ;;`).join("\n")}
    *) return ;;
  esac
  case "\${COMP_WORDS[COMP_CWORD-1]}" in
    -rid | --run-id) COMPREPLY=($(compgen -W "$("\${COMP_WORDS[0]}" run list --json 2>/dev/null | sed -n 's/^ *{"id":"\\([^"]*\\)".*/\\1/p' | head -50)" -- "$current")); return ;;
  esac
  if [[ "$current" == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    compopt -o default
  fi
}
complete -F _binnacle binnacle
`;
}

/** In single quotes for zsh and fish. */
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

function zsh(entries: Entry[]): string {
  const { first, secondByFirst } = wordsOf(entries);
  const summaryOf = (name: string) =>
    entries.find(({ words }) => words.join(" ") === name)?.summary ?? `commands of ${name}`;
  const described = (names: string[], prefix = "") =>
    names.map((name) => quoted(`${name}:${summaryOf(prefix + name)}`)).join(" ");
  const groups = [...secondByFirst].filter(([, second]) => second.length > 0);
  const flagSpec = ({ name, takesValue, help }: Entry["flags"][number]) =>
    quoted(`--${name}[${help.replaceAll(/[[\]:]/g, "\\$&")}]${takesValue ? ":value:" : ""}`);
  return `#compdef binnacle
_binnacle() {
  local command=$words[2]
  if ((CURRENT == 2)); then
    local -a names=(${described(first)})
    _describe command names
    return
  fi
  case $command in
${groups
  .map(
    ([word, second]) => `    ${word})
      if ((CURRENT == 3)); then
        local -a names=(${described(second, `${word} `)})
        _describe command names
        return
      fi
      command="$command $words[3]"
      shift words; ((CURRENT--)) ;;`,
  )
  .join("\n")}
  esac
  shift words; ((CURRENT--))
  case $command in
${entries.map((entry) => `    ${quoted(entry.words.join(" "))}) _arguments ${entry.flags.map(flagSpec).join(" ")} '*:file:_files' ;;`).join("\n")}
  esac
}
_binnacle "$@"
`;
}

function fish(entries: Entry[]): string {
  const { secondByFirst } = wordsOf(entries);
  const lines = ["# Completions of binnacle for fish.", "complete -c binnacle -f"];
  for (const [word, second] of secondByFirst) {
    const summary =
      entries.find(({ words }) => words.length === 1 && words[0] === word)?.summary ?? `commands of ${word}`;
    lines.push(`complete -c binnacle -n __fish_use_subcommand -a ${word} -d ${quoted(summary)}`);
    if (second.length === 0) continue;
    const before = `__fish_seen_subcommand_from ${word}; and not __fish_seen_subcommand_from ${second.join(" ")}`;
    for (const name of second) {
      const { summary: does } = entries.find(({ words }) => words.join(" ") === `${word} ${name}`)!;
      lines.push(`complete -c binnacle -n ${quoted(before)} -a ${name} -d ${quoted(does)}`);
    }
  }
  for (const { words, flags } of entries) {
    const condition = words.map((word) => `__fish_seen_subcommand_from ${word}`).join("; and ");
    for (const { name, short, takesValue, help } of flags)
      lines.push(
        `complete -c binnacle -n ${quoted(condition)} -l ${name}${short ? ` -s ${short}` : ""}${takesValue ? " -r" : ""} -d ${quoted(help)}`,
      );
  }
  return `${lines.join("\n")}\n`;
}
