import { basename } from "node:path";

/** "fedml" where the program was called through a link of that name. (argv[0] is `bun` in a compiled binary.) */
export function programName(argv0: string): "binnacle" | "fedml" {
  return basename(argv0) === "fedml" ? "fedml" : "binnacle";
}

/** Flags of FedML's command line that say which account or platform to ask: there is none here. */
const ignoredWithValue = new Set([
  ..."-k --api_key -v --version -pf --platform -g --group -c --cluster".split(" "),
  ..."-lp --local_on_premise_platform -lpp --local_on_premise_platform_port".split(" "),
]);

const needAllLogs = new Set(["-a", "--need_all_logs"]);

/** A FedML command line as ours: without what only a platform could understand. What stands behind `--` is the user's. */
export function fedmlArguments(argv: string[]): string[] {
  const kept: string[] = [];
  for (let at = 0; at < argv.length; at++) {
    const argument = argv[at]!;
    if (argument === "--") return [...kept, ...argv.slice(at)];
    if (argument.includes("=") && ignoredWithValue.has(argument.slice(0, argument.indexOf("=")))) continue;
    const next = argv[at + 1] ?? "";
    // There -a takes a word; here it is a switch.
    if (needAllLogs.has(argument) && /^(true|false|yes|no|1|0)$/i.test(next)) {
      at++;
      if (/^(true|yes|1)$/i.test(next)) kept.push(argument);
      continue;
    }
    // `fedml --version` asks for ours; behind a command it names a platform environment.
    if (ignoredWithValue.has(argument) && kept.length > 0) at++;
    else kept.push(argument);
  }
  return kept;
}
