"""``python pinned.py CORE NICENESS COMMAND…``: execute a command on one core only, with all its threads.

The command gets a session of its own, for two reasons. An interrupt from the terminal reaches only the
runner, which then ends its processes. And if the kernel schedules sessions as groups, niceness only has an
effect between groups.
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
