"""What our threads import, they import under this lock: a fork in the middle of it would leave the child half a module for
good, so that nothing it logs is sent."""

import os
import threading

# The thread that imports may be the one that forks, from a signal handler.
importing = threading.RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=importing.acquire, after_in_parent=importing.release, after_in_child=importing.release)
