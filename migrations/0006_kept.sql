-- What a person changed here of a source's run: JSON, by member what the source had said before. It says so again and again, which changes
-- nothing; something else is a change of its own.
ALTER TABLE source_run ADD COLUMN edited TEXT;

-- Versions that were deleted here, by the number that their source gave them: it says that it has them again and again.
CREATE TABLE source_deleted (
  source TEXT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  digest TEXT NOT NULL,
  PRIMARY KEY (source, kind, name, version, digest)
) WITHOUT ROWID;
