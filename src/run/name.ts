import { randomInt } from "node:crypto";

const QUALITIES =
  `able agile amber ample arctic azure bold brave breezy bright brisk bronze calm candid clear clever
copper coral cosmic crisp curious dapper daring deep dusky eager early easy fair famous fleet fluent fond frank fresh
gentle gilded glad golden grand happy hardy hazel honest humble jolly keen kind lively loyal lucid lucky lunar mellow
merry mighty misty modest neat nimble noble open patient plucky polar proud quick quiet rapid ready robust rosy
rustic salty serene sharp silent silver sleek smooth snug solar solid spry stable steady stout sunny sure swift tidal
tidy tranquil true upbeat valiant vivid warm wise witty young zesty`.split(/\s+/);

const ANIMALS =
  `albatross anchovy auk avocet barnacle bass beluga bittern bream carp clam cod coot coral cormorant
crab crane curlew dolphin dory dunlin eel egret eider fulmar gannet goby grebe grouse gull haddock hake halibut heron
herring ibis kelpie kingfisher kittiwake krill lamprey limpet lobster loon mackerel manatee marlin minnow mullet
mussel narwhal newt nautilus octopus orca osprey otter oyster pelican penguin perch petrel pike pipit plaice plover
pollock porpoise prawn puffin rail ray salmon sardine scallop seal shark shrimp skate skua smelt snipe sole sprat
squid starfish stork sturgeon swan tench tern trout tuna turbot turtle urchin walrus whale whelk wrasse`.split(
    /\s+/,
  );

const pick = (words: string[]) => words[randomInt(words.length)]!;

/** A name a person can say over the desk, such as "brisk-otter-42". Names are labels: they may repeat. */
export const memorableName = () => `${pick(QUALITIES)}-${pick(ANIMALS)}-${randomInt(1, 100)}`;

/** True for names made here: a writer that joins later and brings a name of its own may replace them. */
export function isMemorableName(name: string): boolean {
  const [, quality = "", animal = ""] = /^([a-z]+)-([a-z]+)-[1-9]\d?$/.exec(name) ?? [];
  return QUALITIES.includes(quality) && ANIMALS.includes(animal);
}

/** 15 random decimal digits, the first not zero: a number to FedML's CLI, and exact in every JSON parser. */
export const newRunId = () => `${randomInt(1, 10)}${String(randomInt(1e14)).padStart(14, "0")}`;
