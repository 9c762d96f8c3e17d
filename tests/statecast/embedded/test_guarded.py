from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from functools import partial

import pytest
from support.world import until

from statecast.embedded.guarded import guarded

PARENT = """
import subprocess, sys
from statecast.embedded.guarded import guarded
child = subprocess.Popen(
    guarded("guarded-test", [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]),
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True,
)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


async def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_a_child_ends_with_its_parent_however_that_ends(end: signal.Signals) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert await _lives(child)
    parent.send_signal(end)
    await parent.wait()
    await until(partial(_lives, child), lambda lives: not lives)


def test_output_and_errors_come_together_and_the_exit_code_is_the_childs() -> None:
    script = "import sys; print('out', flush=True); print('error', file=sys.stderr); sys.exit(7)"
    with subprocess.Popen(
        guarded("guarded-test", [sys.executable, "-c", script]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stderr is not None
        assert (child.stdout.read(), child.wait()) == ("out\nerror\n", 7)
        child.stdin.close()
        assert child.stderr.read() == "", "the guards are gone"
