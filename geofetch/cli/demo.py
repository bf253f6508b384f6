"""``geofetch demo``: the main job, shown on made-up files, with no network.

In: how many files, and where.  Out: the exit code of its steps (demo_steps.py).  Never: a step itself.
"""

from __future__ import annotations

import click

__all__ = ["demo"]

FILES = 300


@click.command(short_help="Show it all on made-up files, with no network.")
@click.option("--dir", "folder", type=click.Path(file_okay=False), help="Work here.  [default: a new temporary folder]")
@click.option("--files", type=click.IntRange(1, 999), default=FILES, show_default=True, help="How many files.")
def demo(folder: str | None, files: int) -> int:
    """Show it all on made-up files: an origin is started, its files are synced, one bit of one is flipped, found and
    mended.

    The folder stays to be looked at, until the next demo has ended well.
    """
    from .demo_steps import show

    return show(folder, files)
