"""A node's copy of the log: received, shown, and taken back."""

from __future__ import annotations

from tests.embedded.talk import new_events
from trio_extreme.embedded.cluster_log import Copy
from trio_extreme.embedded.records import Place
from trio_extreme.embedded.store import Store, Written
from trio_extreme.embedded.versions import find_version
from trio_extreme.values import ANY


def new_store() -> tuple[Store, Copy]:
    copy = Copy()
    return Store(find_version("4.1.1"), storage=copy), copy


def contents(copy: Copy) -> object:
    """All that can be asked of a storage."""
    records = copy.forward(Place(0, 0), 1000)
    streams = {
        name: (copy.last_number(name), list(copy.events(name, 0, 99))) for name in ("people", "orders", "$$people")
    }
    begins = [position for position in range(3000) if copy.begins(position)]
    transactions = {number: list(found) for number in range(3000) if (found := copy.transaction(number))}
    return copy.end, copy.last, records, streams, begins, transactions


def test_what_is_received_is_not_seen_before_it_is_shown() -> None:
    store, copy = new_store()
    written = []
    copy.written = lambda: written.append(len(copy.journal))
    store.append("people", ANY, new_events(2))
    assert (written, copy.shown) == ([2], 2)
    other = Copy()
    other.receive(copy.journal)
    assert (other.end, other.last_number("people"), len(other.journal), other.shown) == (0, -1, 2, 0)
    assert [other.show(), other.show()] == [entry.batch for entry in copy.journal]
    assert contents(other) == contents(copy)


def test_what_is_taken_back_leaves_nothing() -> None:
    store, copy = new_store()
    store.append("people", ANY, new_events(2))
    begun_as = store.begin("people", ANY)
    store.write(begun_as, "people", new_events(1))
    states = [contents(copy)]
    store.write(begun_as, "people", new_events(1))
    states.append(contents(copy))
    begun = store.begun(begun_as)
    assert begun is not None
    assert isinstance(store.commit(begun_as, begun), Written)
    states.append(contents(copy))
    store.append("orders", ANY, [])
    states.append(contents(copy))
    store.append("orders", ANY, new_events(3))
    states.append(contents(copy))
    store.delete("people", ANY, hard=True)
    for index, state in reversed(list(enumerate(states, 4))):
        assert copy.cut(index)
        assert (contents(copy), len(copy.journal), copy.shown) == (state, index, index)
        assert not copy.cut(index)


def test_what_is_hidden_can_be_shown_again() -> None:
    store, copy = new_store()
    for _ in range(3):
        store.append("people", ANY, new_events(1))
    before = contents(copy)
    copy.hide(2)
    assert (copy.last_number("people"), copy.shown, len(copy.journal)) == (0, 2, 4)
    copy.hide(3)
    assert copy.shown == 2
    while copy.shown < 4:
        copy.show()
    assert contents(copy) == before


def test_what_a_scavenge_took_out_can_be_taken_back() -> None:
    store, copy = new_store()
    store.append("people", ANY, new_events(1))
    store.append("people", ANY, new_events(2))
    copy.remove(copy.events("people", 1, 1))
    copy.cut(2)
    assert copy.last_number("people") == 0
    assert not copy.begins(copy.end)


def test_what_two_copies_have_in_common() -> None:
    store, copy = new_store()
    other = Copy()
    for count in range(8):
        assert (copy.common(other), other.common(copy)) == (len(other.journal), len(other.journal))
        if count < 4:
            other.receive(copy.journal[len(other.journal) :])
        store.append("people", ANY, new_events(1))
    while other.shown < len(other.journal):
        other.show()
    fork = Store(find_version("4.1.1"), storage=other)
    common = len(other.journal)
    for _ in range(3):
        fork.append("people", ANY, new_events(1))
    assert (copy.common(other), other.common(copy)) == (common, common)
