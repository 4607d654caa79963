"""The command line, one file a command: `trio-extreme`, or `python -m trio_extreme`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXTRA = ("click", "rich")
_MISSING = """\
Error: the command line needs click and rich, and {name} is not installed.
Try: python -m pip install 'trio-extreme[cli]'
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; `arguments` are those of the process, if none are given."""
    try:
        # Here and not above, so that who installed the library without the extra reads a sentence.
        from trio_extreme.cli.root import run_command_line  # noqa: PLC0415
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in _EXTRA:
            raise
        sys.stderr.write(_MISSING.format(name=name))
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(run_command_line(arguments))
