"""Where the collector is, what to show it, and where to keep what it cannot take now."""

import os
from json import load

from ._imports import importing

DEFAULT_URL = "http://127.0.0.1:7070"


def data_dir():
    named = os.environ.get("BINNACLE_DATA")
    if named:
        return named
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "binnacle")


def spool_dir():
    return os.environ.get("BINNACLE_SPOOL") or os.path.join(data_dir(), "spool")


def find_collector():
    """(url, token or None). Asked again at every reconnection: a collector that is started later is found."""
    running = _running_url()
    url = (os.environ.get("BINNACLE_URL") or running or DEFAULT_URL).rstrip("/")
    token = os.environ.get("BINNACLE_TOKEN", "").strip() or None
    # This machine's token must not travel to another.
    if token is None and (url == running or is_loopback(url)):
        token = _local_token()
    return url, token


def is_loopback(url):
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _running_url():
    try:
        with open(os.path.join(data_dir(), "collector.json"), encoding="utf-8") as file:
            url = load(file)["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url.rstrip("/") if isinstance(url, str) else None


def _local_token():
    try:
        with open(os.path.join(data_dir(), "token"), encoding="ascii") as file:
            token = file.read().strip()
    except (OSError, ValueError):
        return None
    if not token.startswith("bnc_admin_"):
        return token or None
    # The admin's token stays at home: whoever else listens on that port would get it. This one only writes.
    with importing:
        import hmac

    return "bnc_write_" + hmac.new(token.encode("ascii"), b"write", "sha256").hexdigest()


def is_launched(run_id):
    """`binnacle launch` has begun this run: it keeps what is printed, ends its program on a stop, and sends what is left."""
    return os.environ.get("BINNACLE_LAUNCH") == run_id


def rank():
    """Rank of this process in a distributed run; 0 otherwise."""
    for name in ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"):
        text = os.environ.get(name, "")
        if text.isdecimal() and text.isascii() and int(text) <= 1_000_000:
            return int(text)
    return 0


def process_start():
    """Ticks from boot to this process's start: with its pid it is one process and no other."""
    try:
        with open("/proc/self/stat", "rb") as file:
            # The second field is the program's name, in parentheses, and may hold anything.
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def boot_id():
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()[:64] or None
    except (OSError, ValueError):
        return None
