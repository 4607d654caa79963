"""What keeps this library right, one small session each: `python -m nox -s tests`, `python -m nox --list`."""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["tests", "lint", "types", "docs"]
nox.options.default_venv_backend = "virtualenv"

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
LOWEST_PYTHON = PYTHONS[0]

# flake8-async knows Trio better than ruff's ASYNC rules do. ASYNC114 and ASYNC128 are left out: they misfire where a
# task_status is handed on.
ASYNC_RULES = [*range(100, 107), 109, 110, 113, 116, *range(118, 124), 900, 912]
# Every public coroutine is a checkpoint; a test or a script need not be.
CHECKPOINT_RULES = [910, 911]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(python=LOWEST_PYTHON)
def lowest(session: nox.Session) -> None:
    """The test suite with the oldest release of everything that pyproject.toml allows."""
    session.install(*lowest_requirements())
    session.install("--no-deps", "-e", ".")
    session.run("pytest", *session.posargs)


def lowest_requirements() -> list[str]:
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    ranges = project["dependencies"] + extras["cli"] + extras["otel"] + extras["test"]
    return [requirement.replace(">=", "==") for requirement in ranges if ">=" in requirement]


@nox.session(python=LOWEST_PYTHON)
def lint(session: nox.Session) -> None:
    session.install("-e", ".[test]", "ruff", "flake8-async")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    check_async(session, ASYNC_RULES + CHECKPOINT_RULES, "trio_extreme")
    check_async(session, ASYNC_RULES, "tests", "benchmarks", "examples")
    session.run("pytest", "tests/test_levels.py")


def check_async(session: nox.Session, rules: list[int], *folders: str) -> None:
    files = [str(path) for folder in folders for path in sorted(Path(folder).rglob("*.py"))]
    # The generated descriptor is one expression, too deep for libcst.
    files = [path for path in files if not path.endswith("wire/descriptor.py")]
    session.run("flake8-async", "--enable=" + ",".join(f"ASYNC{rule}" for rule in rules), *files)


@nox.session(python=LOWEST_PYTHON)
def types(session: nox.Session) -> None:
    session.install("-e", ".[test]", "mypy", "pyright", "types-protobuf")
    session.run("mypy", "trio_extreme", "_trio_extreme_pytest.py", "tests/typing")
    session.run("pyright")


@nox.session(name="typing-compat", python=LOWEST_PYTHON)
def typing_compat(session: nox.Session) -> None:
    """A user's program beside trio-typing, whose stubs shadow the types of trio itself."""
    session.install(".", "mypy", "types-protobuf", *nox.project.dependency_groups(PROJECT, "typing-compat"))
    # From its own folder, so that mypy takes the installed library and not the sources beside it.
    with session.chdir("tests/typing"):
        session.run("mypy", "--strict", ".")


@nox.session(python=LOWEST_PYTHON)
def proto(session: nox.Session) -> None:
    """Fails where the committed message definitions are not what proto/messages.proto makes."""
    session.install("grpcio-tools")
    session.run("python", "proto/generate.py")
    session.run("git", "diff", "--exit-code", "--", "trio_extreme/wire", external=True)


@nox.session(python=LOWEST_PYTHON)
def docs(session: nox.Session) -> None:
    """The documentation, in build/docs. The tests run what its pages show."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "--fail-on-warning", "--keep-going", "--fresh-env", "docs", "build/docs")


@nox.session(python=LOWEST_PYTHON)
def demo(session: nox.Session) -> None:
    session.install(".[cli]")
    session.run("trio-extreme", "demo", *session.posargs)


@nox.session(python=LOWEST_PYTHON)
def bench(session: nox.Session) -> None:
    session.install(".[test]")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(python=PYTHONS)
def compare(session: nox.Session) -> None:
    """The library beside other clients, each in an environment of its own; `-- --docs` writes the documentation's."""
    session.install(".[test]")
    install_peers(session)
    session.run("python", "-m", "benchmarks.compare", *session.posargs)


def install_peers(session: nox.Session) -> None:
    """As far as there is what they run on: photon-pump wants a Python and a protobuf of its own time."""
    peers = Path("build/peers")
    old = next((python for python in ("python3.9", "python3.8", "python3.10") if runs(session, python)), None)
    if old:
        session.run(old, "-m", "venv", str(peers / "photon"), external=True)
        pip = str(peers / "photon" / "bin" / "pip")
        session.run(pip, "install", "--quiet", "photon-pump==0.9.5", "protobuf==3.20.3", external=True)
    if runs(session, "npm"):
        (peers / "node").mkdir(parents=True, exist_ok=True)
        # The second is what it needs and does not name.
        packages = ["node-eventstore-client@23.10.1", "protobufjs@7"]
        session.run("npm", "install", "--prefix", str(peers / "node"), *packages, external=True)


def runs(session: nox.Session, command: str) -> bool:
    """Whether there is such a command. A name on the path may only lead to a version that was not chosen."""
    try:
        session.run(command, "--version", external=True, silent=True)
    except nox.command.CommandFailed:
        return False
    return True


@nox.session(python=LOWEST_PYTHON)
def long(session: nox.Session) -> None:
    """All tests, the long ones too, with many more examples, what they must cover, and thousands of simulated days."""
    session.install("-e", ".[test]")
    session.run("coverage", "erase")
    everything = ["-m", "long or not long", "--hypothesis-profile=long", "-o", "faulthandler_timeout=1800"]
    session.run("coverage", "run", "-m", "pytest", *everything)
    session.run("coverage", "combine")
    session.run("python", "tests/coverage_rules.py")
    session.run("python", "-m", "tests.simulation", "--minutes", "30", "--jobs", "2", "--at-least", "5000")
    session.run("python", "-m", "tests.simulation", "--minutes", "10", "--jobs", "2", "--persist")
    session.run("python", "-m", "tests.simulation", "--minutes", "5", "--jobs", "2", "--cluster")
    session.run("python", "-m", "tests.simulation", "--minutes", "2", "--jobs", "2", "--listen")


@nox.session(python=LOWEST_PYTHON)
def soak(session: nox.Session) -> None:
    """Twenty minutes over real sockets, while the node and the network break; other times and seeds as arguments."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.soak", *(session.posargs or ["--minutes", "20"]))
