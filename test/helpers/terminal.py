"""
Runs a command on a terminal of its own and plays a script to it, read from stdin as JSON:
{"argv": [...], "size": [rows, columns], "steps": [{"until": TEXT} | {"send": TEXT} | {"resize": [rows, columns]} |
{"signal": N} | {"stopped": true} | {"say": TEXT}, ...]}
`until` waits for text in what came since the last step that waited; `stopped` until the command has stopped itself; `say`
prints a line, so that the caller may do something, and waits for a line on stdin. Prints at last {"output", "code",
"restored"}: all that came, the exit code, and whether the terminal's settings are as they were.
"""

import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios
import time

PATIENCE = 20


def set_size(terminal, size):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))


script = json.loads(sys.stdin.readline())
main, side = pty.openpty()
set_size(main, script["size"])
before = termios.tcgetattr(side)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(side, termios.TIOCSCTTY, 0)
    for stream in range(3):
        os.dup2(side, stream)
    os.close(main)
    os.execvp(script["argv"][0], script["argv"])

output = b""
seen = 0


def read_for(seconds):
    global output
    ready, _, _ = select.select([main], [], [], seconds)
    if ready:
        output += os.read(main, 65536)


def wait_until(text):
    global seen
    wanted = text.encode()
    deadline = time.monotonic() + PATIENCE
    while wanted not in output[seen:]:
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            sys.exit(f"{text!r} did not come; this did: {output[seen:]!r}")
        read_for(0.1)
    seen += output[seen:].index(wanted) + len(wanted)


for step in script["steps"]:
    if "until" in step:
        wait_until(step["until"])
    elif "send" in step:
        os.write(main, step["send"].encode())
    elif "resize" in step:
        seen = len(output)
        set_size(main, step["resize"])
    elif "signal" in step:
        os.kill(pid, step["signal"])
    elif "stopped" in step:
        os.waitpid(pid, os.WUNTRACED)
    elif "say" in step:
        print(step["say"], flush=True)
        sys.stdin.readline()
        seen = len(output)

deadline = time.monotonic() + PATIENCE
while True:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        break
    if time.monotonic() > deadline:
        os.kill(pid, 9)
        sys.exit(f"it did not end; its last words: {output[-500:]!r}")
    read_for(0.05)
read_for(0.2)
code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
restored = termios.tcgetattr(side) == before
print(json.dumps({"output": output.decode(errors="replace"), "code": code, "restored": restored}))
