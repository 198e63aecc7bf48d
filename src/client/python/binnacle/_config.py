"""A run's configuration."""

import weakref
from collections.abc import MutableMapping

from ._values import config_json


class Config(MutableMapping):
    """The run's configuration: a dict whose changes are recorded."""

    def __init__(self, run, values=None):
        self._run = weakref.ref(run)
        self._values = dict(_mapping(values)) if values is not None else {}
        _config_fields(self._values)

    def __getitem__(self, key):
        return self._values[key]

    def __setitem__(self, key, value):
        self.update({key: value})

    def __delitem__(self, key):
        del self._values[key]
        self._run().change({"config": {str(key): None}})

    def __iter__(self):
        return iter(list(self._values))

    def __len__(self):
        return len(self._values)

    def __repr__(self):
        return repr(self._values)

    def update(self, *others, **named):
        """One change, however many keys."""
        changed = dict(*[_mapping(other) for other in others], **named)
        fields = _config_fields(changed)
        self._values.update(changed)
        if fields:
            self._run().change({"config": fields})

    def learn(self, values):
        """What the collector knows already (a run that is joined, parameters of a job file)."""
        for key, value in values.items():
            self._values.setdefault(key, value)


def _mapping(values):
    """A dict, or what argparse and dataclass-like objects keep in __dict__."""
    if isinstance(values, dict) or hasattr(values, "keys"):
        return values
    if hasattr(values, "__dict__"):
        return vars(values)
    return dict(values)


def _config_fields(values):
    """A config, or a change of it, as the collector takes it."""
    fields = config_json(values)
    for key in fields:
        if len(key) > 1000:
            raise ValueError("a config key has at most 1,000 characters: %.80r…" % key)
    return fields
