-- Named stretches of a run's time, on one of its edges or on all of it. What is known of one is only added to: `started` and `ended`
-- come apart, in either order, and a row that says one of them again changes nothing.
CREATE TABLE span (
  run TEXT NOT NULL,
  -- Of what it is (src/span/pair.ts), or of who recorded it.
  id TEXT NOT NULL,
  -- "event", "round", "status"
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  -- '': none, as of `edge`.
  value TEXT NOT NULL,
  edge TEXT NOT NULL,
  -- ms since the epoch; NULL: not heard of yet, or never.
  started REAL,
  ended REAL,
  round INTEGER,
  total INTEGER,
  PRIMARY KEY (run, id)
) WITHOUT ROWID;

CREATE INDEX span_time ON span (run, coalesce(started, ended), id);
CREATE INDEX span_name ON span (run, edge, kind, name, value);
