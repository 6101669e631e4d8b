"""Becomes a child of the guard: dies with its parent, runs at its niceness, then is the program.

Run as a file by an isolated interpreter, `exec_child.py PARENT_PID NICENESS PROGRAM ARGUMENT...`,
because between fork and exec a process with threads may do almost nothing, and asking the kernel
for a signal at the parent's death must be done by the child itself. The signal is SIGTERM: an
orphaned trader still sweeps before it goes.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Replace this process; exits 127 where the program cannot be run."""
    parent_pid, niceness, argv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:
        sys.exit(f"{argv[0]}: the guard died before this child began")
    if niceness:
        os.nice(niceness)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - running the configured program is the purpose
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: cannot run: {error.strerror}\n")
        os._exit(127)


if __name__ == "__main__":
    main()
