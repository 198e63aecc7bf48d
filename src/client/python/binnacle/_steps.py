"""Which step a record gets, and what commit=False gathers: pure rules, applied in the order of the calls.

Both modules: without a step a record takes the counter's; commit=False keeps metrics back until a call commits; several
calls may repeat a step or go backwards.

                                      binnacle                       fedml (the documented client)
  explicit step s, committed          counter = max(counter, s + 1)  the counter stays where it is
  explicit step on commit=False       used by the committing call    forgotten: the committing call decides
                                      unless that brings its own
"""

from json import dumps, loads

from ._values import MAX_KEYS_PER_CALL, MAX_STEP


class Steps:
    def __init__(self, explicit_moves_counter=True, counter=0):
        self.explicit_moves_counter = explicit_moves_counter
        self.counter = counter
        self._gathered = {}
        self._axes = []
        self._step = None
        self._time = None

    @property
    def has_uncommitted(self):
        return self._time is not None

    def take(self, entry):
        """One call: (step, time, metrics text, x axes, commit). Returns the record's JSON text, or None."""
        step, time, text, axes, commit = entry
        if commit and self._time is None:
            return self._record(step, time, text, axes)
        self._gathered.update(loads("{" + text + "}"))
        self._axes.extend(axis for axis in axes if axis not in self._axes)
        self._time = time
        if commit:
            if step is None and self.explicit_moves_counter:
                step = self._step
            return self._gathered_record(step)
        if step is not None or not self.explicit_moves_counter:
            # fedml: also None, as every call sets the provisional step anew.
            self._step = step
        if len(self._gathered) > MAX_KEYS_PER_CALL // 2:
            # More than a record may hold is coming: it becomes several of the same step.
            counter, kept = self.counter, self._step
            record = self._gathered_record(counter if kept is None else kept)
            self.counter, self._step = counter, kept
            return record
        return None

    def flush(self):
        """The record of what nobody committed, or None."""
        return self._gathered_record(self._step) if self.has_uncommitted else None

    def _gathered_record(self, step):
        text = dumps(self._gathered, separators=(",", ":"))[1:-1]
        record = self._record(step, self._time, text, self._axes)
        self._gathered, self._axes, self._step, self._time = {}, [], None, None
        return record

    def _record(self, step, time, text, axes):
        if step is None:
            step = self.counter
            self.counter = min(step + 1, MAX_STEP)
        elif self.explicit_moves_counter and step >= self.counter:
            self.counter = min(step + 1, MAX_STEP)
        if axes:
            return '{"step":%r,"time":%.3f,"x":%s,"metrics":{%s}}' % (step, time, dumps(axes[:16]), text)
        return '{"step":%r,"time":%.3f,"metrics":{%s}}' % (step, time, text)
