"""Changes of valid files: bytes, JSON values, and headers of safetensors files, each by a seed."""

from __future__ import annotations

import copy
import json
import random
import struct

HUGE = (10**4, 10**6, 10**9, 2**31, 2**63 - 1, 2**63, 10**30, -1, 0, 1e308, 0.5)
OTHERS = (None, True, False, "", "x", "x" * 100_000, [], {}, [[]], {"component": {}}, [1], {"a": 1})


def of_bytes(content: bytes, chance: random.Random) -> bytes:
    """Flip, cut, insert, overwrite or repeat bytes."""
    kind = chance.choice(("flip", "flip", "flips", "cut", "insert", "zeros", "repeat"))
    place = chance.randrange(len(content))
    changed = bytearray(content)
    if kind.startswith("flip"):
        for _ in range(1 if kind == "flip" else 8):
            changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del changed[place:]
    elif kind == "insert":
        changed[place:place] = chance.randbytes(chance.randint(1, 16))
    elif kind == "zeros":
        width = min(64, len(content) - place)
        changed[place : place + width] = bytes(width)
    else:
        changed[place:place] = content[place : place + 256]
    return bytes(changed)


def of_json(value: object, chance: random.Random) -> object:
    """Replace, delete or add one value somewhere inside a JSON value."""
    changed = copy.deepcopy(value)
    outer, key = chance.choice(list(_places(changed)))
    kind = chance.choice(("type", "huge", "delete", "nan", "deep", "near", "add"))
    old = outer[key]
    if kind == "delete":
        del outer[key]
    elif kind == "add" and isinstance(outer, dict):
        outer[chance.choice(("more", "name", "0"))] = chance.choice((*HUGE, *OTHERS))
    elif kind == "huge":
        outer[key] = chance.choice(HUGE)
    elif kind == "nan":
        outer[key] = chance.choice((float("nan"), float("inf"), -float("inf")))
    elif kind == "deep":
        nested = old
        for _ in range(chance.choice((3, 100, 500))):
            nested = [nested] if chance.random() < 0.5 else {"component": nested}
        outer[key] = nested
    elif kind == "near" and isinstance(old, int | float):
        outer[key] = old + chance.choice((-1, 1, 0.5))
    else:
        outer[key] = chance.choice(OTHERS)
    return changed


def _places(value):
    """Yield container and key of every value inside a JSON value."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def of_json_text(content: bytes, chance: random.Random) -> bytes:
    """Change a JSON file: mostly its values, sometimes its bytes."""
    if chance.random() < 0.2:
        return of_bytes(content, chance)
    return json.dumps(of_json(json.loads(content), chance)).encode()


def read_header(content: bytes) -> tuple[dict, bytes]:
    """Return header and data of a safetensors file."""
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def with_header(header: object, data: bytes) -> bytes:
    """Return the content of a safetensors file."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def of_safetensors(content: bytes, chance: random.Random) -> bytes:
    """Change a safetensors file: its bytes, its header, or types, shapes and names in it."""
    kind = chance.choice(("bytes", "bytes", "header", "size", "dtype", "shape", "swap", "facts"))
    header, data = read_header(content)
    names = [name for name in header if name != "__metadata__"]
    one, other = chance.sample(names, 2)
    if kind == "bytes":
        return of_bytes(content, chance)
    if kind == "size":
        return struct.pack("<Q", chance.choice((0, 1, 2**20, 2**40, 2**63))) + content[8:]
    if kind == "header":
        header = of_json(header, chance)
    elif kind == "dtype":
        header[one]["dtype"] = chance.choice(
            ("F64", "F32", "I32", "BF16", "F16", "F8_E4M3", "F8_E5M2", "F4", "BOOL", "C64", "U64")
        )
        if chance.random() < 0.7:  # of a size that fits, for types of other widths
            header[one]["shape"] = _shape_of(header[one])
    elif kind == "shape":
        header[one]["shape"] = header[one]["shape"][::-1] + [1] * chance.randint(0, 1)
    elif kind == "swap":
        header[one], header[other] = header[other], header[one]
    elif "__metadata__" in header:
        facts = header["__metadata__"]
        key = chance.choice(list(facts))
        try:
            facts[key] = json.dumps(of_json(json.loads(facts[key]), chance))
        except ValueError:  # a digest, not JSON
            facts[key] = facts[key][::-1]
    else:
        header[one + "x"] = header.pop(one)
    return with_header(header, data)


def _shape_of(entry: dict) -> list[int]:
    bits = {"F4": 4, "F8_E4M3": 8, "F8_E5M2": 8, "BOOL": 8, "BF16": 16, "F16": 16, "I32": 32}
    start, stop = entry["data_offsets"]
    width = bits.get(entry["dtype"], 64 if entry["dtype"] in ("F64", "C64", "U64") else 32)
    return [(stop - start) * 8 // width]


def without_digest(content: bytes) -> bytes:
    """Return a config or a checkpoint as an earlier version wrote it."""
    if content.startswith(b"{"):
        config = json.loads(content)
        config.pop("weights_sha256", None)
        return json.dumps(config).encode()
    header, data = read_header(content)
    header["__metadata__"].pop("sha256", None)
    return with_header(header, data)
