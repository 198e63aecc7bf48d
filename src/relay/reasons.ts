/** Why something was dropped, where a person wanted it so. */
export const GIVEN_UP = "refused by the destination, and given up";
export const REMOVED = "the destination was removed before it had them";

/** Nobody needs to be told of what they did themselves. */
export const isWanted = (reason: string): boolean => reason === GIVEN_UP || reason === REMOVED;
