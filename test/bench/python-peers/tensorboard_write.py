"""Writes one scalar series of argv[2] points to the log folder argv[1]."""

import random
import sys

from tensorboardX import SummaryWriter

writer = SummaryWriter(sys.argv[1], max_queue=10_000)
random.seed(1)
for step in range(int(sys.argv[2])):
    writer.add_scalar("loss", random.random(), step)
writer.close()
