"""Runs trackio's own server on the given port and prints its write token."""

import sys

import trackio

app, *_ = trackio.show(server_port=int(sys.argv[1]), open_browser=False, block_thread=False)
print("token", app.write_token if hasattr(app, "write_token") else app._write_token, flush=True)
sys.stdin.read()
