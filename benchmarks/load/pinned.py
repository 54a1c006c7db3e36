"""``python pinned.py CORE NICENESS COMMAND…``: become a command on one core only, with all its threads.

In a session of its own: an interrupt from the terminal is for the runner, which ends what it started. And
where the kernel schedules sessions as groups, niceness counts for something between groups only as theirs.
"""

import os
import sys
from pathlib import Path

core, niceness = int(sys.argv[1]), int(sys.argv[2])
os.sched_setaffinity(0, {core})
os.setsid()
if niceness:
    os.nice(niceness)
    group = Path("/proc/self/autogroup")
    if group.exists():
        group.write_text(str(niceness), encoding="ascii")
os.execvp(sys.argv[3], sys.argv[3:])
