"""Logs that the client's uploader sends, a batch of a thousand lines at a time. The arguments are a run id and a number of lines."""
import logging
import os
import sys
import time

import fedml
import federated_arguments
from fedml import mlops


def main(run, lines):
    federated_arguments.give(run)
    fedml.init(check_env=False)
    for number in range(lines):
        logging.info("line %d", number)
    try:
        1 / 0
    except ZeroDivisionError:
        logging.exception("it failed")
    print("printed")
    mlops.log_print_init()
    # The uploader looks once in three seconds.
    time.sleep(5)
    logging.info("the last line")
    time.sleep(4)
    mlops.log_print_cleanup()
    time.sleep(1)
    os._exit(0)


# Version 0.8.30 starts its processes with this file once more.
if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
