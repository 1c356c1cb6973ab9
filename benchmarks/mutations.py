"""Seeded damage to bytes, to trees of JSON and YAML, and to what a path leads to."""

from __future__ import annotations

import copy
import json
import os
import random
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

NESTED, DIGITS, LONG = 100_000, 5_000, 100_000

RAW = {
    "@@nested list@@": "[" * NESTED + "]" * NESTED,
    "@@nested object@@": '{"a":' * NESTED + "1" + "}" * NESTED,
    "@@nested a little@@": "[" * 600 + "]" * 600,
    "@@unclosed@@": "[" * NESTED,
    "@@digits@@": "9" * DIGITS,
    "@@minus digits@@": "-" + "9" * 400,
    "@@fraction@@": "0." + "3" * DIGITS,
    "@@overflow@@": "1e999",
    "@@exponent@@": "1e" + "9" * 400,
    "@@nan@@": "NaN",
    "@@infinity@@": "Infinity",
    "@@minus infinity@@": "-Infinity",
    "@@surrogate@@": r'"\ud800"',
    "@@control@@": r'"\u0000\u001b[31m\u0007"',
    "@@bidi@@": r'"\u202egnp.exe\u2066"',
}
"""What no Python value is written as: placeholders, and the text that takes their place."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, 2**31, 2**63, 2**64, -(2**63), 10**18, 10**30, 0.5, -0.5,
    1e308, 1e-320, "", " ", "a", "0", "-1", "1e400", "nan", "inf", "None", "a\nb", "a\tb\x00c",
    "\x1b[31mred\x1b]0;title\x07", "\u202egnp.\u2066", "\u200b", "[bold]x[/bold]", "{{ 7 * 7 }}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 'x' * 99999999999 }}", "n" * 300, "x" * LONG, "é" * 4_000, ".", "..", "/", "~",
    "~nobodyxyz", "/etc/passwd", "../outside/secret", "../../outside/secret.json", "/dev/zero",
    "/proc/self/mem", "org/name", "org/name@main", "a+b", "a+b+c", "model.safetensors",
    "evil.Evil", "evil", "os.system", "builtins.eval", "__class__", "__init__", "(a+)+$",
    "([a-z._0-9]+)+!", "(.*)*(.*)*x", "(", "\\", "float16", "bfloat16", "float8_e4m3fn", "cuda",
    [], {}, [[]], [None], [0], [""], ["a", "a"], [1] * 10_000, {"a": None}, {"": 1},
    {"a": {"a": 1}}, {"__float__": "Infinity"}, {"__float__": "x"}, {"1": 2},
    {"AutoModel": "evil.Evil"},
    {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, *RAW,
)  # fmt: skip


def mutate_tree(draw: random.Random, tree: Any, keys: Sequence[str]) -> Any:
    """One to three changes of a tree.

    Args:
        draw: Chooses.
        tree: Changed in place where it can be.
        keys: Names that mean something where such a tree is read.
    """
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        tree = _change(draw, tree, keys)
    return tree


def _change(draw: random.Random, tree: Any, keys: Sequence[str]) -> Any:
    places = _places(tree)
    if not places or draw.random() < 0.02:
        return _drawn(draw)
    holder, key = draw.choice(places)
    draw.choice(CHANGES)(draw, holder, key, keys)
    return tree


def _drawn(draw: random.Random) -> Any:
    """A copy: later changes may go into it."""
    return copy.deepcopy(draw.choice(VALUES))


def _value(draw: random.Random, holder: Any, key: Any, _: Sequence[str]) -> None:
    holder[key] = _drawn(draw)


def _delete(_: random.Random, holder: Any, key: Any, __: Sequence[str]) -> None:
    del holder[key]


def _rename(draw: random.Random, holder: Any, key: Any, keys: Sequence[str]) -> None:
    if isinstance(holder, dict):
        holder[_name(draw, keys)] = holder.pop(key)


def _add(draw: random.Random, holder: Any, _: Any, keys: Sequence[str]) -> None:
    if isinstance(holder, dict):
        holder[_name(draw, keys)] = _drawn(draw)
    else:
        holder.append(_drawn(draw))


def _twin(draw: random.Random, holder: Any, key: Any, _: Sequence[str]) -> None:
    """The same key again."""
    if isinstance(holder, dict):
        holder[f"@@twin@@{key}"] = draw.choice((holder[key], _drawn(draw)))


def _swap(draw: random.Random, holder: Any, key: Any, _: Sequence[str]) -> None:
    """With a neighbour."""
    other = draw.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key], holder[other] = holder[other], holder[key]


def _grow(draw: random.Random, holder: Any, key: Any, _: Sequence[str]) -> None:
    value, times = holder[key], draw.choice((-1, 0, 2, 50, 1000, 10**9))
    if isinstance(value, list | str):
        holder[key] = value * min(times, 50)
    elif isinstance(value, int | float):
        holder[key] = value * times


CHANGES = (*[_value] * 6, _delete, _rename, _add, _add, _twin, _swap, _grow)


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every holder and key in it; of long lists and objects a part."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(found) < 20_000:
        holder = waiting.pop()
        if not isinstance(holder, dict | list):
            continue
        pairs = list(holder.items() if isinstance(holder, dict) else enumerate(holder))
        found += [(holder, key) for key, _ in pairs]
        waiting += [value for _, value in pairs]
    return found


def _name(draw: random.Random, keys: Sequence[str]) -> str:
    texts = [value for value in VALUES if isinstance(value, str) and value not in RAW]
    return draw.choice(keys) if keys and draw.random() < 0.7 else draw.choice(texts)


def to_json(tree: Any) -> bytes:
    """The tree as JSON, placeholders replaced."""
    return _with_raw(json.dumps(tree))


def to_yaml(tree: Any) -> bytes:
    """The tree as YAML, placeholders replaced."""
    import yaml

    text: str = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    for name in RAW:
        text = text.replace(f"'{name}'", f'"{name}"')
    return _with_raw(text)


def _with_raw(text: str) -> bytes:
    for name, raw in RAW.items():
        text = text.replace(f'"{name}"', raw)
    return text.replace("@@twin@@", "").encode("utf-8", "surrogatepass")


def mutate_bytes(draw: random.Random, data: bytes) -> bytes:
    """One to four changes of bytes."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        place = draw.randrange(len(found) + 1)
        kind = draw.choice(("flip", "cut", "insert", "splice", "head", "remove"))
        if kind == "flip" and place < len(found):
            found[place] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del found[place:]
        elif kind == "insert":
            found[place:place] = draw.choice(PIECES)
        elif kind == "splice":
            start = draw.randrange(len(found) + 1)
            found[place:place] = found[start : start + draw.randrange(1, 200)]
        elif kind == "head":
            found[0:0] = draw.choice(PIECES)
        else:
            del found[place : place + draw.randrange(1, 50)]
    return bytes(found)


PIECES = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\xed\xa0\x80", b"\x1b[31m", b"\r", b"\n",
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"'", b"- ", b"#", b"&a ", b"*a",
    b"!!python/name:os.system ",
    b"<html><body>log in</body></html>", b"\xff" * 8, b"\x00" * 8, b"\x00" * 64, b"[" * NESTED,
    b"9" * DIGITS, b"%YAML 9.9\n", b"---\n", b"\t",
)  # fmt: skip


def replace_path(draw: random.Random, path: Path) -> None:
    """Put something else in the place of a file."""
    path.unlink()
    draw.choice(PLACED)(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        here = os.open(path.parent, os.O_RDONLY)
        end.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


PLACED: tuple[Callable[[Path], Any], ...] = (
    Path.touch,
    Path.mkdir,
    os.mkfifo,
    _socket,
    lambda path: path.symlink_to(path.name),
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.symlink_to("nowhere"),
    lambda path: path.symlink_to("/proc/self/mem"),
    lambda path: (path.touch(), path.chmod(0)),
)
"""An empty file, a folder, a pipe, a socket, a loop, a device, a broken link, memory, no access."""
