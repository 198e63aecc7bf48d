import { listen } from "./run-frame.tsx";

listen({}, () => {});
