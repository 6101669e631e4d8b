"""A trader as far as the guard can tell: it ticks, places orders, reconciles, drains on SIGTERM.

Arguments: the venue's port, the directory it leaves notes in, and what each of its lives does, as
JSON by incarnation: "crash", "block", "unusable", "unconfirmed", "ignore_term", "end", "unsure".
"""

import http.client
import json
import os
import signal
import sys
import time
from pathlib import Path

from mm_daemon.ipc import ledger
from mm_daemon.ipc.page import (
    GENERATION_SEEN,
    PROGRESS_LOOP,
    RECONCILED_INCARNATION,
    Page,
    TraderState,
)


def tell_venue(port: int, act: str, content: object) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", f"/trader/{act}", body=json.dumps(content).encode())
    connection.getresponse().read()
    connection.close()


def wait_to_be_needed(notes: Path, life: str) -> bool:
    (notes / f"spare-{os.getpid()}").touch()
    if life == "end":
        return False
    line = sys.stdin.readline()
    if not line:
        return False
    order = json.loads(line)
    os.environ["MM_INCARNATION"] = str(order["incarnation"])
    os.environ["MM_SESSION_DIR"] = order["session"]
    os.environ.update(order["env"])
    return True


def main() -> int:
    port, notes, lives = int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    was_spare = os.environ.pop("MM_SPARE", "") == "1"
    if was_spare and not wait_to_be_needed(notes, lives.get("spare", "")):
        return 0
    incarnation = os.environ["MM_INCARNATION"]
    session = Path(os.environ["MM_SESSION_DIR"])
    life = lives.get(incarnation, "")
    stopping: list[int] = []
    if life == "ignore_term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    if life == "unusable":
        return 2
    page = Page.attach(Path(os.environ["MM_PAGE"]))
    journal = ledger.Ledger(session, segment_bytes=8192)
    journal.append(ledger.INTENT, 0, 1, b"intent")
    page.words[PROGRESS_LOOP] = 1
    tell_venue(port, "place", {f"{incarnation}-{i}": "BTC" for i in range(3)})
    note = {"environ": dict(os.environ), "pid": os.getpid(), "nice": os.nice(0)}
    note["was_spare"] = was_spare
    (notes / f"life-{incarnation}.json").write_text(json.dumps(note))
    if life == "crash":
        return 70
    while not stopping:
        page.words[PROGRESS_LOOP] += 1
        page.words[GENERATION_SEEN] = page.generation
        if life != "unsure":
            page.words[RECONCILED_INCARNATION] = int(incarnation)
        page.trader_state = TraderState.RUNNING
        if life == "block" and (notes / "block").exists():
            while True:
                pass
        if life == "end":
            break
        time.sleep(0.002)
    if life == "unconfirmed":
        return 3
    tell_venue(port, "clear", {})
    journal.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
