"""The audit log: who did what and when, each line chained to the one before by SHA-256.

Append-only JSON lines, synced before the act is answered. A line that was changed, removed or
inserted breaks the chain from there on, and `verify` names the first line that does not follow,
with what was expected there. What no chain can show is that its newest lines were cut off; the
latch file beside it counts generations and can.

The current file is `audit.jsonl`; a full one becomes `audit-000001.jsonl` and so on, and the chain
runs on through all of them. A torn last line is a writer that died, so it is cut, and that is a
line of its own. Anything else that does not follow refuses every further line: nobody can tell what
is missing, and what widens what the daemon may do is not done without a line.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

AUDIT_FILE: Final = "audit.jsonl"
GENESIS: Final = "0" * 64
FILE_BYTES_MAX: Final = 16 << 20
CUT_TEXT_CHARS: Final = 200


class AuditError(OSError):
    """The line could not be written, or the log is damaged. Nothing of the line stands."""


@dataclass(frozen=True)
class AuditVerdict:
    """Whether the chain holds, and if not, where it first does not."""

    files: int
    lines: int
    """Lines that follow each other, over all files."""
    broken_file: str = ""
    broken_line: int = 0
    """Counts from 1 within its file; 0 = the chain holds."""
    reason: str = ""
    expected: str = ""
    found: str = ""
    torn_bytes: int = 0
    """Of a last line that was never finished; cut at the next start of the writer."""

    @property
    def is_whole(self) -> bool:
        return not self.reason

    def describe(self) -> str:
        """One line for a person."""
        if self.is_whole:
            torn = f"; a torn last line of {self.torn_bytes} bytes" if self.torn_bytes else ""
            return f"{self.lines} lines in {self.files} files follow each other{torn}"
        where = f"{self.broken_file}:{self.broken_line}" if self.broken_line else self.broken_file
        return f"{where}: {self.reason}: expected {self.expected}, found {self.found}"


class AuditLog:
    """Appends to one log. One writing process; its threads may share this.

    `sync` brings a file, by its descriptor, to the disk, and returns when it is there.
    """

    def __init__(
        self,
        path: Path,
        file_bytes_max: int = FILE_BYTES_MAX,
        *,
        sync: Callable[[int], None] = os.fsync,
    ) -> None:
        self.path = path
        self._sync = sync
        self._file_bytes_max = file_bytes_max
        self._lock = threading.Lock()
        self._needs_cut = False
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        last, verdict = _judge(path, _last_hash_before(path), 0)
        self._last = last
        self.problem = "" if verdict.is_whole else f"audit log damaged: {verdict.describe()}"
        """Why nothing can be appended; empty where all is well."""
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size
        if not self.problem and verdict.torn_bytes:
            self._cut(verdict.torn_bytes)

    def append(self, entry: dict[str, Any]) -> str:
        """Writes one line, synced; returns its hash. What is not a number becomes null.

        Raises: AuditError where the disk refuses or the log is damaged.
        """
        body = json.loads(msgspec.json.encode(entry))
        with self._lock:
            if self.problem:
                raise AuditError(self.problem)
            self._require_alone()
            if self._size >= self._file_bytes_max:
                self._rotate()
            body["prev"] = self._last
            digest = _digest(body)
            self._write(_line(body, digest))
            self._last = digest
        return digest

    def close(self) -> None:
        with self._lock:
            os.close(self._fd)

    def _cut(self, torn_bytes: int) -> None:
        whole = self._size - torn_bytes
        text = os.pread(self._fd, CUT_TEXT_CHARS, whole).decode(errors="replace")
        os.ftruncate(self._fd, whole)
        self._size = whole
        with suppress(AuditError):
            self.append({"act": "audit_tail_cut", "bytes": torn_bytes, "text": text})

    def _require_alone(self) -> None:
        """The file is as this writer left it; a line of its own that failed is cut off here."""
        size = os.fstat(self._fd).st_size
        if size == self._size:
            return
        if not self._needs_cut:
            self.problem = (
                f"audit log damaged: {self.path} has {size} bytes, this writer left {self._size}"
            )
            raise AuditError(self.problem)
        try:
            os.ftruncate(self._fd, self._size)
        except OSError as error:
            raise AuditError(f"{self.path}: cannot cut: {error.strerror}") from error
        self._needs_cut = False

    def _write(self, line: bytes) -> None:
        try:
            written = os.write(self._fd, line)
            if written < len(line):
                raise AuditError(f"{self.path}: only {written} of {len(line)} bytes written")
            self._sync(self._fd)
        except OSError as error:
            self._needs_cut = True
            with suppress(AuditError):
                self._require_alone()
            why = error if isinstance(error, AuditError) else error.strerror
            raise AuditError(f"{self.path}: cannot write: {why}") from error
        self._size += len(line)

    def _rotate(self) -> None:
        number = len(chain_files(self.path))
        fresh = self.path.with_name(_rotated_name(self.path, number))
        try:
            os.rename(self.path, fresh)
            os.close(self._fd)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o600)
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise AuditError(f"{self.path}: cannot begin a new file: {error.strerror}") from error
        self._size = 0


def chain_files(path: Path) -> list[Path]:
    """All files of the log at `path`, oldest first; the current one last, if it is there."""
    rotated = sorted(path.parent.glob(f"{path.stem}-[0-9]*{path.suffix}"))
    return [*rotated, path] if path.exists() else rotated


def tail(path: Path, count: int) -> list[dict[str, Any]]:
    """The last lines, newest last; one that is no entry comes as its text."""
    lines: list[bytes] = []
    for file in reversed(chain_files(path)):
        lines = [*file.read_bytes().splitlines()[len(lines) - count :], *lines]
        if len(lines) >= count:
            break
    return [_shown(line) for line in lines[-count:]]


def verify(path: Path) -> AuditVerdict:
    """Walks the whole chain through all files."""
    files = chain_files(path)
    for number, file in enumerate(files, 1):
        wanted = _rotated_name(path, number)
        if file not in (path, path.with_name(wanted)):
            return AuditVerdict(len(files), 0, str(file), 0, "a file is missing", wanted, file.name)
    expected, verdict = GENESIS, AuditVerdict(len(files), 0)
    for file in files:
        expected, verdict = _judge(file, expected, verdict.lines)
        if verdict.is_whole and verdict.torn_bytes and file != path:
            found = f"{verdict.torn_bytes} bytes without an end"
            torn = replace(verdict, broken_file=str(file), reason="torn inside the log")
            verdict = replace(torn, expected="whole lines", found=found)
        if not verdict.is_whole:
            break
    return replace(verdict, files=len(files))


def _judge(path: Path, expected: str, lines_before: int) -> tuple[str, AuditVerdict]:
    """The hash to chain on to, and whether one file follows `expected`."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    torn = len(content) - len(whole)
    number = 0
    for number, line in enumerate(whole.splitlines(), 1):
        fault = _fault(line, expected)
        if fault is not None:
            so_far = lines_before + number - 1
            return expected, AuditVerdict(1, so_far, str(path), number, *fault)
        expected = json.loads(line)["hash"]
    return expected, AuditVerdict(1, lines_before + number, torn_bytes=torn)


def _fault(line: bytes, expected: str) -> tuple[str, str, str] | None:
    """(reason, expected, found), None where the line follows."""
    try:
        body = json.loads(line)
        digest = body.pop("hash")
    except (ValueError, KeyError, AttributeError, TypeError):
        text = line[:CUT_TEXT_CHARS].decode(errors="replace")
        return "not an audit line", "a JSON object with its hash", repr(text)
    if body.get("prev") != expected:
        return "does not follow the line before", f"prev {expected}", f"prev {body.get('prev')}"
    if _digest(body) != digest or _line(body, digest) != line + b"\n":
        return "was changed after it was written", f"hash {_digest(body)}", f"hash {digest}"
    return None


def _last_hash_before(path: Path) -> str:
    """The hash that the current file's first line must follow."""
    rotated = [one for one in chain_files(path) if one != path]
    if not rotated:
        return GENESIS
    lines = rotated[-1].read_bytes().splitlines()
    try:
        return str(json.loads(lines[-1])["hash"])
    except (ValueError, KeyError, IndexError, TypeError):
        return f"the last hash of {rotated[-1].name}"


def _rotated_name(path: Path, number: int) -> str:
    return f"{path.stem}-{number:06d}{path.suffix}"


def _line(body: dict[str, Any], digest: str) -> bytes:
    return (json.dumps({**body, "hash": digest}, sort_keys=True) + "\n").encode()


def _shown(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if isinstance(entry, dict):
        return entry
    return {"act": "damaged_line", "text": line.decode(errors="replace")}


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
