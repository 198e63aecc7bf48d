"""The commands of `fedml`, one after another in one process: each argument is one command line."""
import shlex
import sys

from fedml.cli.cli import cli

for line in sys.argv[1:]:
    print(f"$ fedml {line}", flush=True)
    try:
        cli.main(shlex.split(line), prog_name="fedml", standalone_mode=False)
    except SystemExit as end:
        print(f"exit {end.code}")
    except Exception as error:
        print(f"failed: {error}")
