"""The kernels' cache: named by what kernels are made from, private, pruned, never read-only."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_daemon import kernel_cache
from mm_daemon.kernel_cache import (
    VARIABLE,
    cache_directory,
    drawn_on,
    private_copy,
    prune,
    source_digest,
)

DAY_S = 86_400.0


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A kernel, what it calls, a constant behind that, and a module no kernel knows."""
    package = tmp_path / "mm_daemon"
    files = {
        "__init__.py": "",
        "a/__init__.py": "",
        "a/units.py": "SCALE = 2.0\n",
        "a/inner.py": "from mm_daemon.a.units import SCALE\n\n\ndef f(x):\n    return SCALE * x\n",
        "b/outer.py": "from mm_daemon.a import (\n    inner,\n)\n\n\n@njit(cache=True)\ndef g(x):\n"
        "    return inner.f(x)\n",
        "b/plain.py": "import mm_daemon.b.outer\n\nNAME = 1\n",
    }
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


def test_draws_on_kernels_and_everything_they_import(package: Path) -> None:
    assert list(drawn_on(package)) == [
        "mm_daemon/a/__init__.py",
        "mm_daemon/a/inner.py",
        "mm_daemon/a/units.py",
        "mm_daemon/b/outer.py",
    ]


@pytest.mark.parametrize("name", ["a/units.py", "a/inner.py", "b/outer.py"])
def test_any_source_of_a_kernel_changes_the_digest(package: Path, name: str) -> None:
    before = source_digest(package)
    path = package / name
    path.write_text(path.read_text() + "#\n")
    assert source_digest(package) != before


def test_a_module_no_kernel_imports_leaves_the_digest(package: Path) -> None:
    before = source_digest(package)
    (package / "b/plain.py").write_text("NAME = 2\n")
    assert source_digest(package) == before


def test_the_digest_is_of_names_too(package: Path) -> None:
    before = source_digest(package)
    (package / "b/outer.py").rename(package / "b/other.py")
    assert source_digest(package) != before


def test_every_compiled_module_of_the_package_is_in_the_digest() -> None:
    """Whatever imports the compiler and decorates with it must be seen by the digest."""
    known = drawn_on(kernel_cache.PACKAGE)
    compiled = {
        path.relative_to(kernel_cache.PACKAGE.parent).as_posix()
        for path in kernel_cache.PACKAGE.rglob("*.py")
        if "import njit" in path.read_text() or "import kernel" in path.read_text()
    }
    assert len(compiled) > 10
    assert compiled <= set(known)


def test_goes_below_the_named_directory_and_stays_there_in_a_child(tmp_path: Path) -> None:
    first = cache_directory({VARIABLE: str(tmp_path)})
    assert first.parent == tmp_path
    assert first.name == f"numba-{source_digest(kernel_cache.PACKAGE)}"
    assert cache_directory({VARIABLE: str(first)}) == first


def test_without_a_named_directory_it_is_in_the_users_cache(tmp_path: Path) -> None:
    assert cache_directory({"XDG_CACHE_HOME": str(tmp_path)}).parent == tmp_path / "mm-daemon"


def test_numba_writes_where_it_was_told(tmp_path: Path) -> None:
    """A fresh interpreter compiles one kernel of the package: its files appear in the directory."""
    program = (
        "from mm_daemon.kernel_cache import use_kernel_cache\n"
        "use_kernel_cache()\n"
        "from mm_daemon.pricing.black76 import normal_pdf\n"
        "normal_pdf(0.0)\n"
    )
    environment = {**os.environ, VARIABLE: str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=60)
    names = [path.name for path in tmp_path.glob("numba-*/*/*.nbi")]
    assert any(name.startswith("black76.normal_pdf") for name in names)


@settings(max_examples=30)
@given(ages_days=st.lists(st.integers(1, 50), min_size=1, max_size=8, unique=True))
def test_prunes_all_but_the_newest(
    tmp_path_factory: pytest.TempPathFactory, ages_days: list[int]
) -> None:
    root = tmp_path_factory.mktemp("caches")
    now_s = 1e9
    for age_days in ages_days:
        path = root / f"numba-{age_days:016x}"
        path.mkdir()
        (path / "kernel.nbi").touch()
        os.utime(path, (now_s, now_s - age_days * DAY_S))
    (root / "somebody-elses").mkdir()
    prune(root / f"numba-{min(ages_days):016x}", now_s)
    left = sorted(path.name for path in root.iterdir())
    newest = [f"numba-{age:016x}" for age in sorted(ages_days)[: kernel_cache.KEPT]]
    assert left == sorted([*newest, "somebody-elses"])


def test_a_cache_used_just_now_is_never_pruned(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"numba-{number:016x}").mkdir()
    newest_s = max(path.stat().st_mtime for path in tmp_path.iterdir())
    prune(tmp_path / f"numba-{0:016x}", newest_s + kernel_cache.IDLE_S_MIN / 2)
    assert len(list(tmp_path.iterdir())) == 8


def test_what_cannot_be_written_is_copied_to_a_private_place(tmp_path: Path) -> None:
    original = tmp_path / "image" / f"numba-{1:016x}"
    (original / "pricing").mkdir(parents=True)
    (original / "pricing" / "kernel.nbi").write_bytes(b"compiled")
    (original / "pricing").chmod(0o555)
    original.chmod(0o555)
    copy = private_copy(original, tmp_path)
    assert copy == tmp_path / f"mm-daemon-{os.getuid()}" / original.name
    assert (copy / "pricing" / "kernel.nbi").read_bytes() == b"compiled"
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((copy / "pricing").stat().st_mode) == 0o700
    assert private_copy(original, tmp_path) == copy


def test_a_directory_that_cannot_be_made_is_replaced_by_a_private_one(tmp_path: Path) -> None:
    """A path below a file can be made by nobody, whoever runs the tests."""
    (tmp_path / "file").write_text("")
    directory = cache_directory({VARIABLE: str(tmp_path / "file" / "cache")})
    assert directory.parent.name == f"mm-daemon-{os.getuid()}"
    assert os.access(directory, os.W_OK)


def test_a_private_place_that_others_may_write_is_refused(tmp_path: Path) -> None:
    place = tmp_path / f"mm-daemon-{os.getuid()}"
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(PermissionError, match="mode 0777"):
        private_copy(tmp_path / f"numba-{1:016x}", tmp_path)
