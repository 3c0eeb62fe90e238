"""Commands of this project as processes of their own, one after another."""

import shlex
import subprocess
import sys
from collections.abc import Iterable

from common.errors import Refusal
from common.paths import root


def run_commands(commands: Iterable[list[str]]) -> None:
    """Run `socrates` commands (their words); stops at the first that fails, which said why itself."""
    for command in commands:
        print(f"socrates {shlex.join(command)}", file=sys.stderr, flush=True)
        if subprocess.run([sys.executable, "-m", "socrates", *command], cwd=root()).returncode:
            raise Refusal(f"`socrates {shlex.join(command)}` failed; fix what it says above and run again")
