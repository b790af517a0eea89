"""A path that two parsers could read differently is refused."""

import posixpath
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authz import paths
from authz.paths import refusal


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/api/users/me",
        "/api/users/",
        "/api/users?next=//evil/../%2f%25",
        "/api/users/J%C3%BCrgen",
        "/api/a;v=1/b",
        "/api/file.tar.gz",
        "/api/.well-known/x",
        "/api/wait...",
        "/api/a%20b+c~d@e:f!$&'()*,=",
    ],
)
def test_an_ordinary_path_passes(target: str) -> None:
    assert refusal(target) is None


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("", "path_not_absolute"),
        ("*", "path_not_absolute"),
        ("http://other/x", "path_not_absolute"),
        ("/a b", "path_characters"),
        ("/a\x00b", "path_characters"),
        ("/a\tb", "path_characters"),
        ("/a#b", "path_characters"),
        ("/ü", "path_characters"),
        ("/a\\b", "path_separator"),
        ("/a%2fb", "path_separator"),
        ("/a%2Fb", "path_separator"),
        ("/a%5Cb", "path_separator"),
        ("/a//b", "path_separator"),
        ("//a", "path_separator"),
        ("/a%EF%BC%8Fb", "path_separator"),
        ("/a%EF%BC%BCb", "path_separator"),
        ("/a%", "path_escape"),
        ("/a%2", "path_escape"),
        ("/a%zz", "path_escape"),
        ("/a%u002e", "path_escape"),
        ("/a%ff", "path_not_utf8"),
        ("/a%c0%ae", "path_not_utf8"),
        ("/a%ed%a0%80", "path_not_utf8"),
        ("/a%252fb", "path_double_encoding"),
        ("/a%25b", "path_double_encoding"),
        ("/%25%32%65%25%32%65/b", "path_double_encoding"),
        ("/a%00b", "path_control"),
        ("/a%0d%0ab", "path_control"),
        ("/a%7f", "path_control"),
        ("/a%c2%85", "path_control"),
        ("/a/../b", "path_dots"),
        ("/a/./b", "path_dots"),
        ("/a/..", "path_dots"),
        ("/a/%2e%2e/b", "path_dots"),
        ("/a/.%2E/b", "path_dots"),
        ("/a/..;/b", "path_dots"),
        ("/a/..;x=1/b", "path_dots"),
        ("/a/..%3bx/b", "path_dots"),
        ("/a/.;/b", "path_dots"),
        ("/a/;/b", "path_dots"),
        ("/a/;x=1/b", "path_dots"),
        ("/a/..%20/b", "path_dots"),
        ("/a/.../b", "path_dots"),
        ("/a/%EF%BC%8E%EF%BC%8E/b", "path_dots"),
    ],
)
def test_a_path_with_two_readings_is_refused(target: str, reason: str) -> None:
    assert refusal(target) == reason


PIECES = st.sampled_from(
    ["a", "/", ".", "..", ";", "%", "%2e", "%2f", "%25", "2e", "\\", "%5c", "//", " "]
)


@given(st.lists(PIECES, max_size=12).map(lambda pieces: "/" + "".join(pieces)))
@example("/%252e%252e/a")
def test_what_passes_reads_the_same_decoded_once_twice_or_without_parameters(
    path: str,
) -> None:
    if refusal(path) is not None:
        return
    once = unquote(path, errors="strict")
    bare = "/".join(one.partition(";")[0] for one in once.split("/"))

    assert unquote(once) == once
    assert path.count("/") == once.count("/")
    for reading in (once, bare):
        assert posixpath.normpath(reading) == (reading.rstrip("/") or "/")


@given(st.text(alphabet="/ab-_0.%;~", max_size=12).map(lambda rest: "/" + rest))
def test_the_short_way_of_plain_paths_passes_nothing_that_the_long_one_refuses(
    target: str,
) -> None:
    if paths._PLAIN.fullmatch(target):
        assert paths._raw_refusal(target) is None
        assert paths._decoded_refusal(target) is None
