"""What we have to say goes to stderr, one line each."""

import sys


def tell(message):
    try:
        sys.stderr.write("binnacle: %s\n" % message)
        sys.stderr.flush()
    except Exception:  # A closed or replaced stderr must not end the training.
        pass
