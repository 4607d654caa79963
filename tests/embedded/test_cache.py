from __future__ import annotations

from hypothesis import given, strategies as st

from trio_extreme.embedded.cache import Cache


def kept(cache: Cache[int], names: str) -> list[int | None]:
    return [cache.get(name) for name in names]


def test_what_was_not_asked_for_the_longest_goes_first() -> None:
    cache: Cache[int] = Cache(3 * 201)
    for number, name in enumerate("abc"):
        cache.put(name, number)
    assert cache.get("a") == 0
    cache.put("d", 3)
    assert kept(cache, "abcd") == [0, None, 2, 3]
    assert repr(cache) == "<Cache of 3>"


def test_long_names_take_their_room() -> None:
    cache: Cache[int] = Cache(1000)
    cache.put("a", 1)
    cache.put("b" * 900, 2)
    assert repr(cache) == "<Cache of 0>"


def test_values_are_replaced_and_forgotten() -> None:
    cache: Cache[int] = Cache(1000)
    cache.put("a", 1)
    cache.put("a", 2)
    assert cache.get("a") == 2
    cache.forget("a")
    cache.forget("a")
    assert cache.get("a") is None
    cache.put("b", 3)
    cache.clear()
    assert kept(cache, "ab") == [None, None]


@given(st.lists(st.tuples(st.sampled_from(["a", "bb", "ccc", "dddd"]), st.booleans())))
def test_it_never_takes_more_than_its_limit(steps: list[tuple[str, bool]]) -> None:
    cache: Cache[int] = Cache(450)
    for number, (name, puts) in enumerate(steps):
        if puts:
            cache.put(name, number)
            assert cache.get(name) == number
        else:
            cache.forget(name)
        assert cache._size == sum(200 + len(name) for name in cache._values) <= 450
