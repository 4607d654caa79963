"""`trio-extreme completion`: the script that lets a shell complete our commands."""

from __future__ import annotations

from functools import partial

import click
from click.shell_completion import ShellComplete, get_completion_class

from trio_extreme.cli import output
from trio_extreme.cli.running import run

_EPILOG = """\
\b
bash: trio-extreme completion bash > ~/.local/share/bash-completion/completions/trio-extreme
zsh:  trio-extreme completion zsh > "${fpath[1]}/_trio-extreme"
fish: trio-extreme completion fish > ~/.config/fish/completions/trio-extreme.fish
"""


@click.command(short_help="Print the script for completion in a shell.", epilog=_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> int:
    """Print the script with which a shell completes the commands and options."""
    root = context.find_root()
    kind = get_completion_class(shell)
    name = root.info_name or ""
    variable = f"_{name}_COMPLETE".replace("-", "_").upper()
    # The base's method: bash's own starts a bash to ask for its version, which need not be on this machine.
    script = ShellComplete.source(kind(root.command, {}, name, variable)) if kind else ""
    return run(partial(output.write, script.encode()))
