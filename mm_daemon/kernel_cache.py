"""Where compiled kernels are cached: one directory for each state of the code they are built from.

A kernel draws the kernels and constants of other modules into itself, but numba's cache looks only
at the file of the kernel: after an edit elsewhere it would run yesterday's arithmetic. So the
directory is named by a digest over every module a kernel can draw on, and over the compiler.
Standard library only, because it must run before numba is first imported. Never touches a
directory that was used within the last hour.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Final

VARIABLE: Final = "NUMBA_CACHE_DIR"
KEPT: Final = 3
"""Directories of earlier states that stay, so that going back to one is warm."""
IDLE_S_MIN: Final = 3600.0
PACKAGE: Final = Path(__file__).parent
_COMPILERS: Final = ("numba", "llvmlite")
_NAME: Final = re.compile(r"numba-[0-9a-f]{16}")
_DECORATED: Final = re.compile(rb"^\s*@(?:\w+\.)?(?:n?jit|kernel|vectorize)\b", re.MULTILINE)
_FROM: Final = re.compile(
    rb"^\s*from (mm_daemon[\w.]*) import (?:\(([^)]*)\)|([^\n#(]+))", re.MULTILINE
)
_IMPORT: Final = re.compile(rb"^\s*import (mm_daemon[\w.]*)", re.MULTILINE)
_WORD: Final = re.compile(rb"\w+")


def use_kernel_cache() -> Path:
    """Points numba, here and in every child process, at the cache of this code. Returns it."""
    directory = cache_directory(os.environ)
    os.environ[VARIABLE] = str(directory)
    return directory


def cache_directory(environment: Mapping[str, str]) -> Path:
    """The cache of this code: it exists, can be written, and counts as used now.

    Below $NUMBA_CACHE_DIR where that is set, else in the user's cache. Where neither can be
    written (an image run read-only), what is cached there is copied to a private place below the
    temporary directory, because numba refuses to read a cache that it cannot write.

    Raises: OSError where nothing can be written at all.
    """
    directory = _base(environment) / f"numba-{source_digest(PACKAGE)}"
    if not _made_writable(directory):
        directory = private_copy(directory, Path(tempfile.gettempdir()))
    os.utime(directory)
    prune(directory, time.time())
    return directory


def source_digest(package: Path) -> str:
    """16 hex digits over the compilers' versions and the modules that kernels are made from."""
    state = hashlib.blake2b(digest_size=8)
    for compiler in _COMPILERS:
        with suppress(metadata.PackageNotFoundError):
            state.update(f"{compiler} {metadata.version(compiler)}\n".encode())
    for path, content in drawn_on(package).items():
        state.update(f"{path} {len(content)}\n".encode())
        state.update(content)
    return state.hexdigest()


def drawn_on(package: Path) -> dict[str, bytes]:
    """Sources of every module with a kernel and of all they import, by path, in order."""
    sources = {
        path.relative_to(package.parent).as_posix(): path.read_bytes()
        for path in sorted(package.rglob("*.py"))
    }
    waiting = [path for path, source in sources.items() if _DECORATED.search(source)]
    found: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [one for one in _imported(sources[path]) if one in sources]
    return {path: source for path, source in sources.items() if path in found}


def private_copy(original: Path, root: Path) -> Path:
    """A copy of a cache below `root`, where only this user can write: a cache is code.

    Made once, then reused; empty where there is no original. Raises: PermissionError where the
    place is not this user's alone.
    """
    place = root / f"mm-daemon-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    state = place.lstat()
    is_private = stat.S_ISDIR(state.st_mode) and not stat.S_IMODE(state.st_mode) & 0o077
    if not is_private or state.st_uid != os.getuid():
        raise PermissionError(
            f"{place}: expected a directory of mode 0700 owned by uid {os.getuid()},"
            f" found mode {stat.S_IMODE(state.st_mode):04o} of uid {state.st_uid};"
            f" remove it, or set {VARIABLE}"
        )
    copy = place / original.name
    if copy.is_dir():
        return copy
    fresh = Path(tempfile.mkdtemp(prefix="copy-", dir=place))
    if original.is_dir():
        shutil.copytree(original, fresh, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for path in (fresh, *fresh.rglob("*")):
        if path.is_dir():
            path.chmod(0o700)
    try:
        fresh.rename(copy)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
    return copy


def prune(current: Path, now_s: float) -> None:
    """Deletes the sibling caches beyond the newest `KEPT`, unless somebody used them just now."""
    siblings = [path for path in current.parent.iterdir() if _NAME.fullmatch(path.name)]
    used_s: dict[Path, float] = {}
    for path in siblings:
        with suppress(OSError):
            used_s[path] = path.stat().st_mtime
    newest_first = sorted(used_s, key=lambda path: used_s[path], reverse=True)
    for path in newest_first[KEPT:]:
        if path != current and now_s - used_s[path] > IDLE_S_MIN:
            shutil.rmtree(path, ignore_errors=True)


def _imported(source: bytes) -> Iterator[str]:
    """Paths that the import statements may mean: a module, or a name in a package."""
    for match in _IMPORT.finditer(source):
        yield from _paths(match[1])
    for match in _FROM.finditer(source):
        yield from _paths(match[1])
        for name in _WORD.findall(match[2] or match[3]):
            yield from _paths(match[1] + b"." + name)


def _paths(module: bytes) -> tuple[str, str]:
    base = module.decode().replace(".", "/")
    return f"{base}.py", f"{base}/__init__.py"


def _base(environment: Mapping[str, str]) -> Path:
    """The directory above the caches. A parent process may have named one cache already."""
    given = environment.get(VARIABLE)
    if given:
        path = Path(given).expanduser().absolute()
        return path.parent if _NAME.fullmatch(path.name) else path
    root = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "mm-daemon"


def _made_writable(directory: Path) -> bool:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK | os.X_OK)
