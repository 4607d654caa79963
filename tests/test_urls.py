"""Connection URLs taken apart, and what is told to who mistyped one; never the URL itself."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given, strategies as st

from trio_extreme.errors import InvalidArgument
from trio_extreme.urls import parse_url, read_flag

OPTIONS = {"connection_name": str, "connect_timeout": float, "page_size": int, "read_only": read_flag}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("eventstore://", {}),
        ("eventstore://node", {"host": "node"}),
        ("tcp://node:1114", {"host": "node", "port": 1114}),
        ("eventstore://node:1113/", {"host": "node", "port": 1113}),
        ("eventstore://:1114", {"port": 1114}),
        ("eventstore://[::1]:1113", {"host": "::1", "port": 1113}),
        ("eventstore://admin:changeit@h", {"host": "h", "username": "admin", "password": "changeit"}),
        ("eventstore://admin@h", {"host": "h", "username": "admin", "password": ""}),
        # What a URL's parts may not hold.
        ("eventstore://a%3Ab:p%40s%2F%23%3F%25@h", {"host": "h", "username": "a:b", "password": "p@s/#?%"}),
        ("eventstore://h?connection_name=my%20app+x", {"host": "h", "connection_name": "my app x"}),
        ("eventstore://h?connection_name=", {"host": "h", "connection_name": ""}),
        ("eventstore://h?read_only=true", {"host": "h", "read_only": True}),
        ("eventstore://h?read_only=false", {"host": "h", "read_only": False}),
        ("eventstore://h?connect_timeout=2.5&page_size=10", {"host": "h", "connect_timeout": 2.5, "page_size": 10}),
    ],
)
def test_what_a_url_says(url: str, expected: dict[str, object]) -> None:
    assert parse_url(url, OPTIONS) == expected


@given(st.text(min_size=1).filter(str.isprintable), st.text())
def test_any_name_and_password_can_be_said(username: str, password: str) -> None:
    url = f"eventstore://{quote(username, safe='')}:{quote(password, safe='')}@h"
    assert parse_url(url, OPTIONS) == {"host": "h", "username": username, "password": password}


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("localhost:1113", "eventstore://"),
        ("", "eventstore://"),
        ("redis://u:secret@h", "scheme 'redis://' .* eventstore://"),
        ("esdb://u:secret@h:2113", "scheme 'esdb://' .*gRPC.* eventstore://"),
        ("esdb+discover://u:secret@h", "gRPC"),
        ("kurrentdb://u:secret@h", "gRPC"),
        ("http://u:secret@h:2113", "web interface"),
        ("https://u:secret@h:2113", "web interface"),
        ("eventstore://u:secret@h:x", "no port"),
        ("eventstore://u:secret@h:70000", "no port"),
        ("eventstore://u:secret@h:1113/stream", "only host, port and .options are understood"),
        # A password with what stands for something else in a URL; its parts must not come to light.
        ("eventstore://u:12#secret@h", "in a password write # . / @ as %23 %3F %2F %40"),
        ("eventstore://u:12@h#", "in a password write #"),
        ("eventstore://u:12@h?page_size=5#secret", "in a password write #"),
        ("eventstore://u:12/secret@h", "in a password write #"),
        ("eventstore://u:12?secret@h", "in a password write #"),
        ("eventstore://u:12?page_size=secret@h", "in a password write #"),
        ("eventstore://u:12?secret&page_size=5@h", "in a password write #"),
        ("eventstore://u@h?Secret5=secret", r"unknown option \(not shown\); known are connect_timeout"),
        ("eventstore://u@h?" + "secret" * 10, r"unknown option \(not shown\)"),
        ("eventstore://u:secret@h?page_sise=3", "unknown option 'page_sise'; did you mean 'page_size'?"),
        (
            "eventstore://u:secret@h?zzz=3",
            "unknown option 'zzz'; known are connect_timeout, connection_name, page_size",
        ),
        ("eventstore://u:secret@h?page_size=many", "page_size='many' is not a whole number"),
        ("eventstore://u:secret@h?page_size=1.5", "page_size='1.5' is not a whole number"),
        ("eventstore://u:secret@h?connect_timeout=soon", "connect_timeout='soon' is not a number"),
        # urlsplit itself refuses these, and shows the password in the second.
        ("eventstore://u:secret@[::1", "IPv6"),
        ("eventstore://u:secret@h\u2100", "odd characters"),
    ],
)
def test_mistakes_are_named_and_the_url_is_not_shown(url: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text) as caught:
        parse_url(url, OPTIONS)
    assert str(caught.value).startswith("url: ")
    assert "secret" not in str(caught.value)
    # The cause would be printed with it.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@given(st.text(st.sampled_from("eventstorcp:/@[]?#%&=.0123456789aA\u2100 \x00\ud800")))
def test_any_text_is_a_url_or_an_invalid_argument(text: str) -> None:
    for url in (text, f"tcp://{text}"):
        with suppress(InvalidArgument):
            parse_url(url, OPTIONS)
