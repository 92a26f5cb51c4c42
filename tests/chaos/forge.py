"""Makes processes under test: `python -m tests.chaos.forge`, driven by JSON lines.

{"order": …}   begin a process (see victim.suffer)   → its id
{"poll": pid}  has it ended?                          → its exit code, -signal, or null
"""

from __future__ import annotations

import json
import os
import sys

from tests.chaos.victim import suffer, warm_up


def answer(line: str) -> object:
    asked = json.loads(line)
    if "order" in asked:
        pid = os.fork()
        if pid == 0:
            suffer(asked["order"])
        return pid
    pid, status = os.waitpid(asked["poll"], os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


if __name__ == "__main__":
    warm_up()
    print("null", flush=True)
    for asked in sys.stdin:
        print(json.dumps(answer(asked)), flush=True)
