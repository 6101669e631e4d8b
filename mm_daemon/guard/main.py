"""The guard as a program: its arguments, its house, its exit code."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from mm_daemon.guard.boot import BootError, take_house
from mm_daemon.guard.settings import SettingsError, read_settings
from mm_daemon.guard.supervisor import EXIT_UNUSABLE, Supervisor
from mm_daemon.ipc.layout import Layout


def main(argv: list[str] | None = None) -> int:
    """Run the guard on a resolved configuration; returns the process's exit code."""
    parser = argparse.ArgumentParser(prog="mm_daemon.guard", description="The daemon's keeper.")
    parser.add_argument("resolved", type=Path, help="the resolved configuration, a JSON file")
    parser.add_argument("--for", dest="run_for_s", type=float, help="stop after so many seconds")
    arguments = parser.parse_args(argv)
    try:
        settings = read_settings(arguments.resolved)
        if arguments.run_for_s is not None:
            settings = replace(settings, run_for_s=arguments.run_for_s)
        layout = Layout(settings.runtime_dir, settings.state_dir)
        layout.create()
        house = take_house(settings, layout)
    except (BootError, SettingsError, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_UNUSABLE
    code = Supervisor(settings, layout, house).run()
    layout.page.unlink(missing_ok=True)
    house.owner.release()
    return code
