-- What a person changed here of a source's version: JSON, by member what the source had said before, as in source_run.
ALTER TABLE artifact_version ADD COLUMN edited TEXT;
