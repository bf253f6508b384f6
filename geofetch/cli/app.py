"""The commands, and what ``--help`` says of them.

In: argv.  Out: an exit code.  Never: an import beyond click and the standard library before a command is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from .. import __version__
from . import codes
from .console import Console
from .demo import demo
from .doctor import doctor
from .get import get
from .profiles import profiles
from .repair import repair
from .repositories import repositories
from .sources import sources
from .sync import sync
from .units import units
from .verify import verify

__all__ = ["run"]


class _Ordered(click.Group):
    """Commands in the order in which people need them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Ordered,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all well, 2 usage, 3 to 13 by the cause; see geofetch help exit-codes.",
)
@click.version_option(__version__, prog_name="geofetch", message="%(prog)s %(version)s")
def app() -> None:
    """Fetch many files at once, prove them, store them, and remember where each one is and can come from.

    Data goes to stdout, all that is told to people to stderr.
    """


for _command in (get, sync, verify, repair, units, sources, repositories, profiles, doctor, demo):
    app.add_command(_command)


@app.command("help", short_help="Explain a command, or the exit codes.")
@click.argument("topic", required=False)
@click.pass_context
def explain(ctx: click.Context, topic: str | None) -> None:
    """Explain a command, or exit-codes."""
    above = ctx.parent or ctx
    if topic == "exit-codes":
        click.echo(f"What geofetch exits with.  One cause, its code; several different ones, 3.\n\n{codes.table()}")
        return
    found = app.get_command(above, topic) if topic is not None else app
    if found is None:
        raise click.UsageError(f"no topic is called {topic!r}; there are exit-codes, {', '.join(app.commands)}")
    named = above if found is app else click.Context(found, info_name=topic, parent=above)
    click.echo(found.get_help(named))


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit code.  What a user got wrong is one line on stderr."""
    try:
        code: Any = app.main(args=None if argv is None else list(argv), prog_name="geofetch", standalone_mode=False)
    except click.Abort:
        return codes.of_signal(2)
    except click.exceptions.NoArgsIsHelpError as exc:
        exc.show()
        return codes.USAGE
    except click.ClickException as exc:
        return _usage(exc)
    except (BrokenPipeError, SystemExit):  # click's own way out where a reader of --help has left
        return codes.CLOSED
    except OSError as exc:  # what click itself says, such as --help; commands tell theirs
        from .output import unwritten

        error = unwritten(exc)
        Console().fail(str(error))
        return codes.code_of(error)
    return int(code or 0)


def _usage(exc: click.ClickException) -> int:
    context = getattr(exc, "ctx", None)
    path = context.command_path if context is not None else "geofetch"
    words = " ".join(exc.format_message().split())
    Console().fail(f"{words} (see {path} --help)")
    return codes.USAGE
