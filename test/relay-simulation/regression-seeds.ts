/** Each told of a mistake once; what they come to changes with the simulation, so that they are only seeds like others by and by. */
export const regressionSeeds: readonly number[] = [
  // History reaches ahead of the cursor: a source went back behind it, unseen.
  1,
  // Numbers of clients were told before what they count.
  3, 4, 7,
  // Deleted runs among entries that history passes over.
  24, 31,
  // A run's introduction was broken off.
  363, 905,
  // A snapshot under an old nonce.
  55, 194, 492,
];
