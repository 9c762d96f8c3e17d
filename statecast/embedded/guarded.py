"""Child processes that end with the program that started them, even when that one is killed with SIGKILL.

The child is started through a few lines of `sh` that hold the reading end of a pipe, the child's standard input, of
which only our process has the writing end. When our process is gone, however it went, the kernel closes that end, and
the shell kills its process group, in which nothing is but itself and the child.
"""

from __future__ import annotations

from collections.abc import Sequence

# `exec` makes the program our direct child, so that its process id and its end are seen without a go-between. There are
# two guards, so that killing one leaves the other; they alone hold standard error, whose end says that both are gone.
# `kill 0` needs no process id, so it never meets a stranger: the group was given to this shell alone.
_GUARDED = """
exec 3<&0
guard() { exec >/dev/null; trap '' HUP INT TERM; read -r _ <&3; kill -s KILL 0; }
guard &
guard &
exec "$@" </dev/null 3<&- 2>&1
"""


def guarded(name: str, command: Sequence[str]) -> list[str]:
    """What to start in place of `command`, with pipes for all three streams and `start_new_session`.

    The child's output and errors come on standard output. Closing its standard input kills what is left of it; the
    end of standard error says that nothing is. `name` is what `ps` shows of the guards.
    """
    return ["/bin/sh", "-c", _GUARDED, name, *command]
