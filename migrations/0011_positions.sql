-- How far what is kept of before has come at a destination that can't say so itself.
CREATE TABLE relay_position (
  destination TEXT NOT NULL REFERENCES destination (name) ON DELETE CASCADE,
  -- As the relay's contract names it, JSON.
  part TEXT NOT NULL,
  position REAL NOT NULL,
  PRIMARY KEY (destination, part)
) WITHOUT ROWID;
