"""Turns what a script logs into JSON text, in the call itself: a bad value is reported on the line that logged it."""

from json.encoder import encode_basestring_ascii as quote

MAX_KEY_LENGTH = 500
MAX_KEYS_PER_CALL = 10_000
MAX_TEXT = 1_000_000
MAX_STEP = 2**53 - 1
MAX_DEPTH = 64

_INFINITY = float("inf")
_CACHED_KEYS = 20_000
_prefix_by_key = {}


def metrics_text(metrics):
    """The inside of a JSON object, '"loss":0.5,"acc":1'. Nested dicts become keys joined by '/'."""
    try:
        items = metrics.items()
    except AttributeError:
        raise TypeError(
            "metrics must be a dict such as {'loss': 0.3}, not %s" % type(metrics).__name__
        ) from None
    known = _prefix_by_key
    parts = []
    for key, value in items:
        # A str only: 1, True and 1.0 are the same dict key and different names.
        prefix = known.get(key) if type(key) is str else None
        if prefix is None:
            prefix = key_prefix(key)
        if type(value) is float:
            parts.append(prefix + (repr(value) if value - value == 0.0 else non_finite(value)))
        elif isinstance(value, dict):
            parts.extend(_flattened(str(key), value, 1))
        else:
            parts.append(prefix + value_text(value, key))
    if len(parts) > MAX_KEYS_PER_CALL:
        raise ValueError("%d metrics in one call; at most %d" % (len(parts), MAX_KEYS_PER_CALL))
    return ",".join(parts)


def _flattened(parent, metrics, depth):
    if depth > MAX_DEPTH:
        raise ValueError("metric %s: nested too deeply" % quote(parent[:80]))
    for key, value in metrics.items():
        name = "%s/%s" % (parent, key)
        if isinstance(value, dict):
            yield from _flattened(name, value, depth + 1)
        else:
            yield key_prefix(name) + value_text(value, name)


def key_prefix(key):
    """'"loss":' for a key that the collector will take."""
    name = key if type(key) is str else str(key)
    if not name:
        raise ValueError("a metric's name must not be empty")
    # The collector counts as JavaScript does: a character beyond U+FFFF is two.
    if len(name) + sum(character > "\uffff" for character in name) > MAX_KEY_LENGTH:
        raise ValueError(
            "a metric's name must have at most %d characters: %s…" % (MAX_KEY_LENGTH, quote(name[:80]))
        )
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in name):
        raise ValueError("a metric's name must not contain control characters: %s" % quote(name))
    prefix = quote(name) + ":"
    if type(key) is str:
        if len(_prefix_by_key) >= _CACHED_KEYS:
            _prefix_by_key.clear()
        _prefix_by_key[key] = prefix
    return prefix


def value_text(value, key):
    """JSON text of one value: a number where it is one (numpy and torch scalars included), else text, list, null."""
    text = _json(value, key, 0)
    if len(text) > MAX_TEXT:
        raise ValueError(
            "metric %s: a value of %d characters is too long (at most %d)" % (quote(str(key)), len(text), MAX_TEXT)
        )
    return text


def _json(value, key, depth):
    if isinstance(value, float):
        return float.__repr__(value) if value - value == 0.0 else non_finite(value)
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None:
        return "null"
    if isinstance(value, int):
        return _integer(int(value), key)
    if isinstance(value, str):
        return quote(value)
    if depth > MAX_DEPTH:
        raise ValueError("metric %s: nested too deeply, or it contains itself" % quote(str(key)))
    if isinstance(value, (list, tuple)):
        return "[%s]" % ",".join([_json(item, key, depth + 1) for item in value])
    if isinstance(value, dict):
        return "{%s}" % ",".join(
            ["%s:%s" % (quote(str(name)), _json(item, key, depth + 1)) for name, item in value.items()]
        )
    return _json(plain(value, key), key, depth + 1)


def _integer(value, key):
    if -MAX_STEP <= value <= MAX_STEP:
        return int.__repr__(value)
    try:
        return repr(float(value))
    except OverflowError:
        raise ValueError(
            "metric %s: an integer of %d bits is beyond what a 64-bit float can hold" % (quote(str(key)), value.bit_length())
        ) from None


def non_finite(value):
    """JSON has no NaN and no infinities: on the wire these words are numbers."""
    if value != value:
        return '"NaN"'
    return '"Infinity"' if value == _INFINITY else '"-Infinity"'


def plain(value, key="value"):
    """A Python bool, int, float or str for a scalar of another library, without importing that library."""
    kind = type(value)
    problem = None
    for convert in (_item, _index, _float):
        try:
            result = convert(value)
        except Exception as error:  # What a foreign conversion may raise is not ours to list.
            problem = problem or error
            continue
        if isinstance(result, (bool, int, float, str)):
            return result
        if isinstance(result, complex):
            break  # Its __float__ would drop the imaginary part.
    detail = " (%s)" % problem if problem and str(problem) else ""
    shape = getattr(value, "shape", None)
    if shape is not None:
        raise TypeError(
            "metric %s: cannot log a %s of shape %s%s; log single numbers, such as its mean"
            % (quote(str(key)), kind.__name__, tuple(shape) if hasattr(shape, "__iter__") else shape, detail)
        )
    raise TypeError(
        "metric %s: cannot log a value of type %s.%s%s; log numbers, text, bool, None, or lists of these"
        % (quote(str(key)), kind.__module__, kind.__qualname__, detail)
    )


def _item(value):
    item = getattr(value, "item", None)
    return item() if callable(item) else None


def _index(value):
    index = getattr(type(value), "__index__", None)
    return None if index is None else index(value)


def _float(value):
    convert = getattr(type(value), "__float__", None)
    return None if convert is None else convert(value)


def step_number(step):
    """A step as int or finite float."""
    if type(step) is not int:
        if not isinstance(step, (int, float)):
            converted = plain(step, "step")
            if not isinstance(converted, (int, float)):
                raise TypeError("step must be a number, not %s" % type(step).__name__)
            step = converted
        if isinstance(step, float):
            if step - step != 0.0:
                raise ValueError("step must be finite, not %r" % step)
            # 3.0 and 3 are one step; a counter that went on from 3.0 would print as one anyway.
            step = int(step) if step.is_integer() else float(step)
        else:
            step = int(step)
    if not -MAX_STEP <= step <= MAX_STEP:
        raise ValueError("step must lie within ±(2**53 - 1), not %.6g" % step)
    return step


def config_json(value, depth=0):
    """A config as plain JSON data. Anything that is no JSON is kept as its text; integers above 2**53 too, exactly."""
    if value is None or isinstance(value, (bool, str)):
        return value if not isinstance(value, str) else str(value)
    if isinstance(value, int):
        return int(value) if -MAX_STEP <= value <= MAX_STEP else str(int(value))
    if isinstance(value, float):
        return float(value) if value - value == 0.0 else non_finite(value).strip('"')
    if depth > MAX_DEPTH:
        raise ValueError("config is nested too deeply, or it contains itself")
    if isinstance(value, dict) or (hasattr(value, "items") and hasattr(value, "keys")):
        return {str(key): config_json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [config_json(item, depth + 1) for item in value]
    try:
        return config_json(plain(value), depth + 1)
    except (TypeError, ValueError):
        return str(value)
