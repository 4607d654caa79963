"""The public names: all there, all explained, and what cancelling means wherever it matters."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any, get_origin

import pytest

import trio_extreme
from trio_extreme import Connection, errors, messages
from trio_extreme.wire.commands import MESSAGES

SOURCES = Path(trio_extreme.__file__).parent
# They have no client of ours.
OTHERS = {"embedded", "cli", "testing"}
EXPORTED = sorted(trio_extreme.__all__)
# Names for types that have others; Python keeps no docstring of them.
ALIASES = {name for name in EXPORTED if get_origin(getattr(trio_extreme, name)) is not None}


def members(kind: type) -> list[Any]:
    """Public methods and properties, as (name, object)."""
    return [(name, member) for name, member in inspect.getmembers(kind) if not name.startswith("_")]


def verbs() -> list[Any]:
    return [pytest.param(verb, id=name) for name, verb in members(Connection) if callable(verb)]


def names_imported_from(module: str) -> set[str]:
    """By the client's own modules."""
    found = set()
    for path in SOURCES.rglob("*.py"):
        if path.relative_to(SOURCES).parts[0] not in OTHERS and path.name != "__init__.py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module == module:
                    found |= {alias.name for alias in node.names}
    return found


def test_all_that_is_public_is_in_all() -> None:
    public = {
        name
        for name, value in vars(trio_extreme).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }
    assert public | {"__version__"} == set(EXPORTED)
    assert len(EXPORTED) == len(set(EXPORTED))


def test_every_name_of_all_is_there() -> None:
    assert [name for name in EXPORTED if not hasattr(trio_extreme, name)] == []


def types_of_ours() -> set[str]:
    """The classes and aliases of the client's modules."""
    found = set()
    for path in SOURCES.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias":
                found.add(ast.unparse(node.target))
    return found


def names_in_signatures(value: Any) -> set[str]:
    """What a public function, or a public member of a class, takes and returns."""
    functions = [value]
    if inspect.isclass(value):
        functions = [getattr(member, "fget", member) for _, member in members(value)]
        functions += [value.__dict__[name] for name in ("__anext__", "__aenter__") if name in value.__dict__]
    annotations = [text for each in functions for text in getattr(each, "__annotations__", {}).values()]
    return {
        node.id
        for text in annotations
        for node in ast.walk(ast.parse(str(text), mode="eval"))
        if isinstance(node, ast.Name)
    }


@pytest.mark.parametrize("name", [name for name in EXPORTED if callable(getattr(trio_extreme, name))])
def test_what_a_public_name_takes_and_returns_is_public(name: str) -> None:
    """Or nobody could annotate a function with it."""
    met = names_in_signatures(getattr(trio_extreme, name)) & types_of_ours()
    # `Connect` is a seam for tests.
    assert met - set(EXPORTED) - {"Connect"} == set()


def test_every_error_that_can_be_met_is_public() -> None:
    met = {name for name in names_imported_from("trio_extreme.errors") if inspect.isclass(getattr(errors, name))}
    assert met - set(EXPORTED) == set()


def test_every_error_has_the_one_base() -> None:
    for name in EXPORTED:
        value = getattr(trio_extreme, name)
        if inspect.isclass(value) and issubclass(value, Exception):
            assert issubclass(value, trio_extreme.TrioExtremeError)


@pytest.mark.parametrize("name", [name for name in EXPORTED if name not in ALIASES | {"ALL", "__version__"}])
def test_every_public_class_and_function_is_explained(name: str) -> None:
    value = getattr(trio_extreme, name)
    if not inspect.isclass(value) and not inspect.isfunction(value):
        value = type(value)
    assert value.__doc__
    # A dataclass without a docstring shows its signature.
    assert not value.__doc__.startswith(f"{value.__name__}(")


@pytest.mark.parametrize(
    "kind", [pytest.param(value, id=name) for name in EXPORTED if inspect.isclass(value := getattr(trio_extreme, name))]
)
def test_every_public_member_is_explained(kind: type) -> None:
    own = [
        (name, member)
        for name, member in members(kind)
        if (callable(member) or isinstance(member, property))
        and (getattr(getattr(member, "fget", member), "__module__", "") or "").startswith("trio_extreme")
    ]
    assert [name for name, member in own if not member.__doc__] == []


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_is_explained(verb: Any) -> None:
    first = (inspect.getdoc(verb) or "").splitlines()[0]
    assert first.endswith(".") or ":" in first


def test_the_connection_says_what_cancelling_means() -> None:
    assert "Cancelling a call is safe" in (Connection.__doc__ or "")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "append",
            "delete_stream",
            "transaction",
            "scavenge",
            "set_metadata",
            "update_metadata",
            "set_default_acl",
            "execute",
        ),
        *("read_stream", "subscribe", "subscribe_live", "changes"),
    ],
)
def test_where_cancelling_means_more_the_verb_says_so(name: str) -> None:
    assert "ancel" in (getattr(Connection, name).__doc__ or "")


def test_opening_says_what_leaving_means() -> None:
    text = trio_extreme.open_connection.__doc__ or ""
    assert "close_timeout" in text
    assert "for whatever reason" in text


@pytest.mark.parametrize("verb", verbs())
def test_options_are_given_by_name(verb: Any) -> None:
    """What follows the obvious arguments can be reordered without breaking anybody."""
    positional = [
        parameter.name
        for parameter in inspect.signature(verb).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    obvious = {"self", "stream", "events", "number", "message", "group", "settings", "metadata", "acl", "id"}
    assert set(positional) <= obvious


@pytest.mark.parametrize("verb", verbs())
def test_what_asks_the_server_takes_credentials(verb: Any) -> None:
    asks = verb not in (Connection.statistics, Connection.changes)
    assert ("credentials" in inspect.signature(verb).parameters) is asks


def test_every_request_and_reply_has_a_public_message() -> None:
    public = {getattr(messages, name) for name in messages.__all__}
    inner = {"StreamEventAppeared", "SubscribeToStream", "IdentifyClient", "NotHandled"}
    needed = {
        message
        for message in MESSAGES.values()
        if message.DESCRIPTOR.name not in inner and "ubscri" not in message.DESCRIPTOR.name
    }
    assert {message.DESCRIPTOR.name for message in needed - public} <= {"CheckpointReached"}


def test_the_version_is_that_of_the_distribution() -> None:
    text = (SOURCES.parent / "pyproject.toml").read_text()
    assert f'version = "{trio_extreme.__version__}"' in text
