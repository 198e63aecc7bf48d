-- An edge's next status ends the one before it.
CREATE INDEX span_status ON span (run, edge, started) WHERE kind = 'status';
