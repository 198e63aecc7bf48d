"""What we have to say goes to stderr, one line each."""

import sys

_defects = set()


def tell(message):
    try:
        sys.stderr.write("binnacle: %s\n" % message)
        sys.stderr.flush()
    except Exception:  # A closed or replaced stderr must not end the training.
        pass


def tell_defect(where, error):
    """Something we did not foresee, once for each kind."""
    kind = (where, type(error))
    if kind not in _defects:
        _defects.add(kind)
        from traceback import format_exc

        tell("a defect of binnacle's %s, please report it: %s" % (where, format_exc()))
