import { plugin } from "bun";
import { mutantPlugin } from "./mutants.ts";

await plugin(mutantPlugin(process.env.MUTANT!));
