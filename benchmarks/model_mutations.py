"""Alters a model folder in thousands of ways and counts the outcomes.

Every altered folder must be refused at load, by one readable ModelInvalid that names the problem,
or give exactly the same results as before. It must never raise another exception, hang, or fail
when it is used.

    python benchmarks/model_mutations.py --model isic2019 --count 5000 --seed 0

There are two kinds of alteration. A `plain` one changes files, as a slip or a bad disk does. A
`resealed` one writes new hashes as well, as a person can. It may give another result, but then the
model has another id or is refused by its golden results, and it may not fail in any other way.
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from PIL import Image

from cadlib.assessment import assess
from cadlib.errors import ModelInvalid
from cadlib.images.synthetic import render_lesion
from cadlib.model import manifest
from cadlib.model.decisive_fields import field_digests
from cadlib.model.model import Model
from cadlib.model.record import METRICS_FILE, find_model, read_checked, record_from_json
from cadlib.model.verification import verify

LIMIT_SECONDS = 20.0
"""A load that takes longer counts as a hang."""
LONGEST_MESSAGE = 1500

JSON_FILES = (
    manifest.RECORD_FILE,
    manifest.METRICS_FILE,
    manifest.GOLDEN_FILE,
    manifest.MANIFEST_FILE,
)
TENSOR_FILES = (manifest.WEIGHTS_FILE, manifest.NEIGHBOURS_FILE, manifest.NOVELTY_FILE)

ODD_VALUES = (
    *("null", "true", "false", '"x"', "-1", "0", "1", "0.5", "1e308", "NaN", "Infinity"),
    *("-Infinity", "1e999", "[]", "{}", "[[]]", '{"x": 1}', "1" + "0" * 400, "1" + "0" * 5000),
    *("[" * 100_000, '"' + "x" * 1_000_000 + '"', '"\\ud800"', '""', '"\\u0000"', "-0.0"),
    *("5e-324", '"0.5"', "9007199254740993"),
)
"""JSON texts of other types, and of numbers that are none or too large."""

ADDED_NAMES = (
    "notes.txt",
    ".DS_Store",
    "weights.bin",
    "model.onnx.data",
    "Model.json",
    "golden.json.bak",
)
TEXT_CHANGES = (
    ("0.9", "1.0"),
    ("train", "test"),
    ("test", "train"),
    (" not ", " "),
    ("\n", "\r\n"),
    ("ISIC", "isic"),
)
GRAPH_CHANGES = (
    (b"weights.safetensors", b"/dev/zero\0\0\0\0\0\0\0\0\0\0"),
    (b"weights.safetensors", b"../../../etc/passwd"),
    (b"network.", b"netwerk."),
    (b"Clip", b"Relu"),
    (b"Clip", b"Loop"),
    (b"Conv", b"Gemm"),
    (b"Add", b"Sub"),
    (b"logits", b"logitz"),
    (b"features", b"evidence"),
    (b"pixels", b"pixelz"),
    (b"Gemm", b"Conv"),
)

EXTRA_BYTES = (b"\0", b"\n", b" ", b"{}", b"x" * 5000)

Place = tuple[Any, ...]
"""The keys from the top of a JSON value down to a value in it."""
Facts = dict[str, manifest.FileFacts]
"""Name of a file -> its size and hash."""
Results = list[dict[str, Any]]
"""Assessments, one for each image and operating point."""
Alteration = Callable[[Path, Random], str]
"""Changes a folder and returns what it did; "" where that was not possible."""


@dataclass(frozen=True)
class Result:
    """The outcome of one altered folder; `fault` is empty where it is as required."""

    kind: str
    did: str
    outcome: str
    message: str = ""
    fault: str = ""


def replace(path: Path, data: bytes) -> None:
    """Replace a file; it is a hard link, so it must not be written in place."""
    path.unlink()
    path.write_bytes(data)


def some_file(folder: Path, rng: Random) -> Path:
    """Choose a file; the small ones, which decide most, as often as the large ones."""
    return rng.choice(files_of(folder))


def files_of(folder: Path) -> list[Path]:
    """Return the files of a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.is_file())


# Alterations of bytes and files.


def flip_bit(folder: Path, rng: Random) -> str:
    """Flip one bit of a file."""
    path = some_file(folder, rng)
    data = bytearray(path.read_bytes())
    place = rng.randrange(len(data))
    bit = rng.randrange(8)
    data[place] ^= 1 << bit
    replace(path, bytes(data))
    return f"{path.name}: bit flipped in byte {place}"


def zero_range(folder: Path, rng: Random) -> str:
    """Zero some bytes, as a bad disk does."""
    path = some_file(folder, rng)
    data = bytearray(path.read_bytes())
    size = len(data)
    first = rng.randrange(size)
    length = rng.choice([1, 16, 512, 4096])
    last = min(size, first + length)
    zeros = bytes(last - first)
    data[first:last] = zeros
    replace(path, bytes(data))
    return f"{path.name}: bytes {first} to {last} zeroed"


def truncate(folder: Path, rng: Random) -> str:
    """Cut a file."""
    path = some_file(folder, rng)
    data = path.read_bytes()
    size = len(data)
    lengths = [
        0,
        1,
        8,
        size // 2,
        size - 1,
        rng.randrange(size),
    ]
    length = rng.choice(lengths)
    replace(path, data[:length])
    return f"{path.name}: truncated to {length} bytes"


def append(folder: Path, rng: Random) -> str:
    """Add bytes at the end."""
    path = some_file(folder, rng)
    data = path.read_bytes()
    extra = rng.choice(EXTRA_BYTES)
    count = len(extra)
    replace(path, data + extra)
    return f"{path.name}: {count} bytes added at the end"


def insert_bytes(folder: Path, rng: Random) -> str:
    """Insert random bytes."""
    path = some_file(folder, rng)
    data = path.read_bytes()
    place = rng.randrange(len(data))
    count = rng.choice([1, 2, 100])
    inserted = rng.randbytes(count)
    before = data[:place]
    after = data[place:]
    replace(path, before + inserted + after)
    return f"{path.name}: bytes inserted at {place}"


def remove(folder: Path, rng: Random) -> str:
    """Remove a file."""
    path = some_file(folder, rng)
    path.unlink()
    return f"{path.name}: removed"


def swap(folder: Path, rng: Random) -> str:
    """Swap two files."""
    files = files_of(folder)
    first, second = rng.sample(files, 2)
    aside = folder / ".swap"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    return f"{first.name}: swapped with {second.name}"


def add_entry(folder: Path, rng: Random) -> str:
    """Add a file, a folder, a pipe or a link."""
    name = rng.choice(ADDED_NAMES)
    path = folder / name
    kind = rng.choice(["file", "folder", "pipe", "link"])
    if kind == "file":
        path.write_bytes(rng.randbytes(100))
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    return f"{name}: {kind} added"


def make_special(folder: Path, rng: Random) -> str:
    """Replace a file by something else: a folder, a pipe, a link."""
    path = some_file(folder, rng)
    kind = rng.choice(["folder", "pipe", "loop", "endless", "dangling", "other file", "same file"])
    data = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "dangling":
        path.symlink_to(folder / "nothing here")
    elif kind == "other file":
        path.symlink_to(some_file(folder, rng).name)
    else:
        twin = folder.parent / f"twin of {path.name}"
        twin.write_bytes(data)
        path.symlink_to(twin)
    content = " of the same content" if kind == "same file" else ""
    return f"{path.name}: replaced by a {kind}{content}"


# Alterations of values.


def places(content: Any, path: Place = ()) -> Iterator[Place]:
    """Yield the path of every value below a JSON value."""
    for key in keys_of(content):
        place = (*path, key)
        yield place
        value = content[key]
        yield from places(value, place)


def keys_of(content: Any) -> list[Any]:
    """Return the keys of an object or a list; none for any other value."""
    if isinstance(content, dict):
        return list(content)
    if isinstance(content, list):
        return list(range(len(content)))
    return []


def at(content: Any, path: Place) -> Any:
    """Return the value at a path."""
    for key in path:
        content = content[key]
    return content


def json_text(content: Any) -> str:
    """Return a JSON value as the text of a file, without its last line break."""
    return json.dumps(content, indent=2, ensure_ascii=False)


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file."""
    text = json_text(content)
    data = f"{text}\n".encode()
    replace(path, data)


def json_place(folder: Path, rng: Random) -> tuple[Path, Any, Place]:
    """Choose a JSON file and the path of a value in it."""
    names = existing(folder, JSON_FILES)
    path = folder / rng.choice(names)
    data = path.read_bytes()
    content = json.loads(data)
    # From the top downwards, so that the many curves of metrics.json do not take all the turns.
    place: Place = ()
    while True:
        value = at(content, place)
        keys = keys_of(value)
        if not keys:
            return path, content, place
        # Only a value below the top is a place to stop.
        if place and rng.random() < 0.25:
            return path, content, place
        key = rng.choice(keys)
        place = (*place, key)


def existing(folder: Path, names: Iterable[str]) -> list[str]:
    """Return the names of the files that exist."""
    return [name for name in names if (folder / name).exists()]


def parent_of(content: Any, place: Place) -> Any:
    """Return the object or the list that has the value at a path."""
    above = place[:-1]
    return at(content, above)


def set_at(content: Any, place: Place, value: Any) -> None:
    """Set the value at a path."""
    parent = parent_of(content, place)
    key = place[-1]
    parent[key] = value


def remove_key(folder: Path, rng: Random) -> str:
    """Remove a key or an item of a JSON file."""
    path, content, place = json_place(folder, rng)
    parent = parent_of(content, place)
    key = place[-1]
    del parent[key]
    write_json(path, content)
    return f"{path.name}: {place} removed"


def odd_value(folder: Path, rng: Random) -> str:
    """Give a key a value of another type, or one that is no number."""
    path, content, place = json_place(folder, rng)
    value = rng.choice(ODD_VALUES)
    # Python cannot write all of these values, so the text is replaced.
    set_at(content, place, "@here@")
    text = json_text(content)
    changed = text.replace('"@here@"', value)
    replace(path, changed.encode())
    beginning = value[:30]
    return f"{path.name}: {place} is {beginning}"


def duplicate_key(folder: Path, rng: Random) -> str:
    """Write a key twice."""
    path, content, place = json_place(folder, rng)
    parent = parent_of(content, place)
    if not isinstance(parent, dict):
        return ""
    key = place[-1]
    value = rng.choice([None, 0.99, "x", parent[key]])
    twice = dict(parent)
    twice["@again@"] = value
    if len(place) > 1:
        set_at(content, place[:-1], twice)
    else:
        content = twice
    # A dict has each key once, so the text is replaced.
    text = json_text(content)
    key_text = json.dumps(key)
    changed = text.replace('"@again@"', key_text)
    replace(path, changed.encode())
    return f"{path.name}: {place} twice"


def rename_key(folder: Path, rng: Random) -> str:
    """Rename a key."""
    path, content, place = json_place(folder, rng)
    parent = parent_of(content, place)
    if not isinstance(parent, dict):
        return ""
    key = place[-1]
    value = parent.pop(key)
    in_capitals = str(key).upper()
    names = [
        "surprise",
        "",
        "a\nb",
        "x" * 100_000,
        f"{in_capitals}_",
    ]
    new_key = rng.choice(names)
    parent[new_key] = value
    write_json(path, content)
    return f"{path.name}: {place} renamed"


def move_number(folder: Path, rng: Random) -> str:
    """Change a number a little."""
    path, content, place = json_place(folder, rng)
    value = at(content, place)
    # A truth value is an int for Python.
    if isinstance(value, bool):
        return ""
    if not isinstance(value, int | float):
        return ""
    values = [
        value + 1,
        value * 1.01,
        -value,
        value / 2,
        1 - value,
    ]
    moved = rng.choice(values)
    set_at(content, place, moved)
    write_json(path, content)
    return f"{path.name}: {place} moved"


def lists_in(content: Any) -> list[Place]:
    """Return the paths of the lists that have more than one order."""
    lists = []
    for place in places(content):
        value = at(content, place)
        is_list = isinstance(value, list)
        if is_list and len(value) > 1:
            lists.append(place)
    return lists


def permute(folder: Path, rng: Random) -> str:
    """Change the order of a list."""
    path, content, _ = json_place(folder, rng)
    lists = lists_in(content)
    if not lists:
        return ""
    chosen = rng.choice(lists[:200])
    values = at(content, chosen)
    rng.shuffle(values)
    write_json(path, content)
    return f"{path.name}: {chosen} permuted"


def read_record(folder: Path) -> tuple[Path, Any]:
    """Return the path of model.json and its JSON value."""
    path = folder / manifest.RECORD_FILE
    data = path.read_bytes()
    return path, json.loads(data)


def move_threshold(folder: Path, rng: Random) -> str:
    """Move a threshold."""
    path, content = read_record(folder)
    point = rng.choice(content["operating_points"])
    name = point["name"]
    thresholds = [
        0.0,
        0.5,
        0.99,
        1.0,
        point["threshold"] + 1e-9,
        rng.random(),
    ]
    threshold = rng.choice(thresholds)
    point["threshold"] = threshold
    write_json(path, content)
    return f"{path.name}: threshold {name} is {threshold}"


def move_answer_field(folder: Path, rng: Random) -> str:
    """Change a field that decides a result."""
    path, content = read_record(folder)
    names = list(FIELD_CHANGES)
    name = rng.choice(names)
    if name == "limit" and not content["novelty"]:
        name = "layer"
    change = FIELD_CHANGES[name]
    change(content, rng)
    write_json(path, content)
    return f"{path.name}: {name} moved"


def move_temperature(content: Any, rng: Random) -> None:
    """Change a temperature by a factor."""
    temperatures = content["temperature"]
    size = rng.choice(["small", "large"])
    factor = rng.choice([0.5, 2, 1e-9, 1e9])
    temperatures[size] *= factor


def move_bias(content: Any, rng: Random) -> None:
    """Add to the bias of a class."""
    bias = content["bias"]
    number = rng.randrange(8)
    added = rng.choice([1e-6, 1, -50, 1e9])
    bias[number] += added


def move_quantile(content: Any, rng: Random) -> None:
    """Change the quantile of a class."""
    quantiles = content["conformal"]["quantiles"]
    quantile = rng.choice([0, 0.5, 1, 2])
    code = rng.choice(content["codes"])
    quantiles[code] = quantile


def remove_quantile(content: Any, rng: Random) -> None:
    """Remove the quantile of a class."""
    del content["conformal"]["quantiles"][rng.choice(content["codes"])]


def shuffle_codes(content: Any, rng: Random) -> None:
    """Change the order of the classes."""
    rng.shuffle(content["codes"])


def move_limit(content: Any, rng: Random) -> None:
    """Change the novelty limit by a factor."""
    content["novelty"]["limit"] *= rng.choice([0.1, 10, 1e-9, 1e300])


def move_mean(content: Any, rng: Random) -> None:
    """Change the mean of a colour channel."""
    means = content["input"]["mean"]
    mean = rng.random()
    channel = rng.randrange(3)
    means[channel] = mean


def change_size(content: Any, rng: Random) -> None:
    """Change the side of the input."""
    content["input"]["size_px"] = rng.choice([32, 64, 96, 4096, 10**9])


def change_layer(content: Any, rng: Random) -> None:
    """Change the saliency layer."""
    content["members"][0]["saliency_layer"] = rng.choice(["", "conv_stem", "nothing"])


FIELD_CHANGES: dict[str, Callable[[Any, Random], None]] = {
    "temperature": move_temperature,
    "bias": move_bias,
    "quantile": move_quantile,
    "no quantile": remove_quantile,
    "codes": shuffle_codes,
    "limit": move_limit,
    "mean": move_mean,
    "size": change_size,
    "layer": change_layer,
}


def edit_text(folder: Path, rng: Random) -> str:
    """Edit the card or the split."""
    name = rng.choice([manifest.CARD_FILE, manifest.SPLIT_FILE])
    path = folder / name
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8")
    before, after = rng.choice(TEXT_CHANGES)
    if before not in text:
        return ""
    # Once, or everywhere.
    count = rng.choice([1, -1])
    changed = text.replace(before, after, count)
    replace(path, changed.encode())
    return f"{name}: {before!r} became {after!r}"


def with_length(header: bytes) -> bytes:
    """Return a header of a safetensors file with its length before it."""
    length = len(header)
    return length.to_bytes(8, "little") + header


def change_header(folder: Path, rng: Random) -> str:
    """Change the JSON header of a safetensors file."""
    names = existing(folder, TENSOR_FILES)
    path = folder / rng.choice(names)
    data = path.read_bytes()
    # The first 8 bytes are the length of the header.
    length = int.from_bytes(data[:8], "little")
    end = 8 + length
    header = json.loads(data[8:end])
    name = some_tensor(header, rng)
    change = rng.choice(["length", *HEADER_CHANGES])
    if change == "length":
        wrong = rng.choice([0, 1, 2**40, 2**63, length + 1])
        wrong_length = wrong.to_bytes(8, "little")
        replace(path, wrong_length + data[8:])
        return f"{path.name}: header length"
    change_tensor = HEADER_CHANGES[change]
    change_tensor(header, name, rng)
    text = json.dumps(header)
    changed = with_length(text.encode())
    tensors = data[end:]
    replace(path, changed + tensors)
    return f"{path.name}: {change} of {name}"


def some_tensor(header: Any, rng: Random) -> str:
    """Choose a tensor of a safetensors header."""
    return rng.choice([key for key in header if key != "__metadata__"])


def change_dtype(header: Any, name: str, rng: Random) -> None:
    """Give a tensor another type."""
    tensor = header[name]
    types = [
        "F64",
        "BF16",
        "F8_E4M3",
        "U16",
        "BOOL",
        "I64",
        "X",
        5,
        None,
    ]
    tensor["dtype"] = rng.choice(types)


def change_shape(header: Any, name: str, rng: Random) -> None:
    """Give a tensor another shape."""
    tensor = header[name]
    shapes = [
        [],
        [0],
        [-1],
        [2**62, 4],
        [1, *tensor["shape"]],
        "x",
    ]
    tensor["shape"] = rng.choice(shapes)


def change_offsets(header: Any, name: str, rng: Random) -> None:
    """Give a tensor other bytes."""
    header[name]["data_offsets"] = rng.choice([[0, 0], [0, 2**60], [5, 1], [-1, 4], []])


def rename_tensor(header: Any, name: str, rng: Random) -> None:
    """Rename a tensor."""
    names = ["surprise", "", "basis.scale"]
    new_name = rng.choice(names)
    tensor = header.pop(name)
    header[new_name] = tensor


def remove_tensor(header: Any, name: str, _rng: Random) -> None:
    """Remove a tensor."""
    del header[name]


def transpose_tensor(header: Any, name: str, _rng: Random) -> None:
    """Reverse the sides of a tensor."""
    header[name]["shape"] = header[name]["shape"][::-1]


def swap_tensors(header: Any, name: str, rng: Random) -> None:
    """Swap two tensors."""
    other = some_tensor(header, rng)
    tensor = header[name]
    other_tensor = header[other]
    header[name] = other_tensor
    header[other] = tensor


HEADER_CHANGES: dict[str, Callable[[Any, str, Random], None]] = {
    "dtype": change_dtype,
    "shape": change_shape,
    "offsets": change_offsets,
    "name": rename_tensor,
    "remove": remove_tensor,
    "transpose": transpose_tensor,
    "swap": swap_tensors,
}


def change_graph(folder: Path, rng: Random) -> str:
    """Change names and operators of the ONNX graph, by others of the same length."""
    path = folder / manifest.ONNX_FILE
    data = path.read_bytes()
    before, after = rng.choice(GRAPH_CHANGES)
    if before not in data:
        return ""
    count = rng.choice([1, -1])
    changed = data.replace(before, after, count)
    replace(path, changed)
    return f"{path.name}: {before!r} became {after!r}"


PLAIN: tuple[Alteration, ...] = (
    flip_bit,
    flip_bit,
    zero_range,
    truncate,
    append,
    insert_bytes,
    remove,
    swap,
    add_entry,
    make_special,
    remove_key,
    odd_value,
    odd_value,
    odd_value,
    duplicate_key,
    rename_key,
    move_number,
    move_number,
    permute,
    move_threshold,
    move_answer_field,
    edit_text,
    change_header,
    change_graph,
)
"""A name that comes twice is drawn twice as often."""
RESEALED: tuple[Alteration, ...] = (
    flip_bit,
    zero_range,
    truncate,
    remove_key,
    odd_value,
    rename_key,
    move_number,
    permute,
    move_threshold,
    move_answer_field,
    change_header,
    change_graph,
)


def reseal(folder: Path) -> None:
    """Write new hashes into a folder as far as possible, whatever its files are."""
    # The file to change may not be readable any more.
    unreadable = (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    )
    with suppress(*unreadable):
        write_hashes(folder)


def present_facts(folder: Path) -> Facts:
    """Return size and hash of each file of the model that is there."""
    facts = {}
    for name in sorted(manifest.FILES):
        path = folder / name
        if path.is_file():
            data = path.read_bytes()
            facts[name] = manifest.file_facts(data)
    return facts


def write_record_hashes(raw: dict[str, Any], facts: Facts) -> None:
    """Write the hashes of the other files into the JSON value of model.json."""
    for number, member in enumerate(raw["members"]):
        weights_file = manifest.weights_file(number)
        member["weights_sha256"] = facts[weights_file].sha256
        onnx_file = manifest.onnx_file(number)
        member["onnx_sha256"] = facts[onnx_file].sha256
    fitted = {
        "neighbours": manifest.NEIGHBOURS_FILE,
        "novelty": manifest.NOVELTY_FILE,
    }
    for key, name in fitted.items():
        part = raw[key]
        if part:
            part["sha256"] = facts[name].sha256


def write_hashes(folder: Path) -> None:
    """Write the hashes of all files into record and manifest; raise for unreadable files."""
    path, raw = read_record(folder)
    manifest_path = folder / manifest.MANIFEST_FILE
    listed = json.loads(manifest_path.read_bytes())
    facts = present_facts(folder)
    write_record_hashes(raw, facts)
    record_text = json.dumps(raw, indent=2)
    record_data = record_text.encode()
    replace(path, record_data)
    facts[manifest.RECORD_FILE] = manifest.file_facts(record_data)
    field_digests(raw)
    try:
        record = record_from_json(raw, path)
        model_id = record.model_id
    except ModelInvalid:
        model_id = listed["model"]
    text = manifest.manifest_text(model_id, facts, raw)
    replace(manifest_path, text.encode())


@dataclass(frozen=True)
class Original:
    """The unaltered model: its folder, id, results and shown files, for these images."""

    folder: Path
    model_id: str
    results: Results
    shown: dict[str, bytes]
    images: list[Image.Image]

    @classmethod
    def read(cls, folder: Path) -> "Original":
        """Load a model and use it."""
        model = Model.load(folder)
        images = lesions()
        return cls(
            folder=folder,
            model_id=model.record.model_id,
            results=results_of(model, images),
            shown=shown_files(folder),
            images=images,
        )


def lesions() -> list[Image.Image]:
    """Return two drawn lesions, other ones than those of golden.json."""
    large = render_lesion("NV", 7, 200)
    small = render_lesion("MEL", 7, 120)
    return [
        Image.fromarray(large),
        Image.fromarray(small),
    ]


def results_of(model: Model, images: list[Image.Image]) -> Results:
    """Return the whole assessment of the images, at each operating point."""
    results = []
    points = model.record.operating_points
    for image in images:
        for point in points:
            assessment = assess(model, image, point.name)
            result = assessment.to_json()
            results.append(result)
    return results


def shown_files(folder: Path) -> dict[str, bytes]:
    """Return the files that pages show metrics of."""
    names = (
        METRICS_FILE,
        manifest.CARD_FILE,
        manifest.SPLIT_FILE,
    )
    files = {}
    for name in names:
        data = read_checked(folder, name)
        files[name] = data or b""
    return files


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in code that takes longer."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def link_files(original: Path, folder: Path) -> None:
    """Make a folder with links to the files of another."""
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in original.iterdir():
        link = folder / path.name
        os.link(path, link)


@dataclass(frozen=True)
class Altered:
    """An altered folder: the kind of its alteration, its description, and whether it is plain."""

    folder: Path
    kind: str
    did: str
    plain: bool

    def result(self, outcome: str, message: str = "", fault: str = "") -> Result:
        """Return the outcome of this folder."""
        return Result(self.kind, self.did, outcome, message, fault)

    def fault_of(self, refusal: str) -> str:
        """Return the fault of a refusal, "" if it is readable and names a file."""
        is_one_line = "\n" not in refusal
        if not is_one_line or len(refusal) > LONGEST_MESSAGE:
            return "its message is not one readable line"
        # A resealed folder is another model, which need not name the file.
        if not self.plain:
            return ""
        file, _, _ = self.did.partition(":")
        swapped = re.findall("swapped with (.+)", self.did)
        names = [file, *swapped]
        if any(name in refusal for name in names):
            return ""
        expected = " or ".join(names)
        return f"its message does not name {expected}"


def try_model(altered: Altered, original: Original) -> Result:
    """Load an altered folder and use the model; return the outcome."""
    try:
        with limit(LIMIT_SECONDS):
            model = Model.load(altered.folder)
    except ModelInvalid as error:
        message = str(error)
        return altered.result("refused", message, altered.fault_of(message))
    except Exception as error:  # noqa: BLE001 - any is a fault, and counted as one
        return altered.result("another exception at load", short_text(error), "at load")
    return use_model(model, altered, original)


def gives_the_same(model: Model, altered: Altered, original: Original) -> bool:
    """Return whether a model gives the results and the shown files of the original."""
    results = results_of(model, original.images)
    if results != original.results:
        return False
    return shown_files(altered.folder) == original.shown


def use_model(
    model: Model,
    altered: Altered,
    original: Original,
) -> Result:
    """Use a model that an altered folder gave; return the outcome."""
    same_id = model.record.model_id == original.model_id
    try:
        with limit(LIMIT_SECONDS):
            same = gives_the_same(model, altered, original)
    except Exception as error:  # noqa: BLE001 - any is a fault, and counted as one
        message = short_text(error)
        return altered.result("failed when it was used", message, "at use")
    if same and same_id:
        return altered.result("same answers and metrics")
    if altered.plain:
        fault = "another result or metric without a message"
        return altered.result("changed unnoticed", "", fault)
    # A person wrote new hashes: a decisive field changes the id, a metric or a text does not.
    if same_id:
        return altered.result("other metrics, same id")
    return altered.result("another id")


def short_text(error: Exception) -> str:
    """Return the type and the beginning of the message of an error."""
    kind = type(error).__name__
    message = str(error)
    beginning = message[:300]
    return f"{kind}: {beginning}"


def mutate(
    folder: Path,
    count: int,
    seed: int,
    *,
    every_verify: int = 50,
) -> Iterator[Result]:
    """Alter copies of a model folder `count` times, and yield the outcome of each.

    A fifth of them is resealed.
    """
    rng = Random(seed)
    original = Original.read(folder)
    with TemporaryDirectory(dir=folder.parent) as place:
        copy = Path(place, "altered", folder.name)
        for number in range(count):
            # The fifth of five is resealed.
            plain = number % 5 != 4
            altered = alter(folder, copy, rng, plain=plain)
            result = try_model(altered, original)
            is_verified = plain and number % every_verify == 0
            if is_verified and not result.fault:
                result = check_with_verify(copy, folder, result)
            yield result


def alter(
    original: Path,
    folder: Path,
    rng: Random,
    *,
    plain: bool,
) -> Altered:
    """Make an altered copy of a folder."""
    alterations = PLAIN if plain else RESEALED
    did = ""
    # Not every alteration is possible with every file.
    while not did:
        link_files(original, folder)
        alteration = rng.choice(alterations)
        did = alteration(folder, rng)
    name = alteration.__name__
    if plain:
        return Altered(folder, name, did, plain=True)
    reseal(folder)
    return Altered(folder, f"resealed {name}", did, plain=False)


def names_in(folder: Path) -> set[str]:
    """Return the names of everything in a folder."""
    return {path.name for path in folder.iterdir()}


def is_same(folder: Path, original: Path) -> bool:
    """Return whether two folders have the same files with the same bytes."""
    names = names_in(folder)
    if names != names_in(original):
        return False
    for name in names:
        path = folder / name
        if not path.is_file():
            return False
        original_path = original / name
        if path.read_bytes() != original_path.read_bytes():
            return False
    return True


def check_with_verify(
    folder: Path,
    original: Path,
    result: Result,
) -> Result:
    """Return a result with a fault if `verify` calls a changed folder unchanged."""
    if not verify(folder).unchanged:
        return result
    if is_same(folder, original):
        return result
    # Other whitespace in the manifest is no change.
    same_answers = result.outcome == "same answers and metrics"
    if same_answers and "manifest" in result.did:
        return result
    return Result(
        result.kind,
        result.did,
        "unchanged for verify",
        "",
        "verify did not name it",
    )


@dataclass
class Report:
    """The outcomes of all alterations, also by kind, and the faults."""

    outcomes: Counter[str]
    by_kind: dict[str, Counter[str]]
    faults: list[Result]

    def add(self, result: Result) -> None:
        """Count a result."""
        is_resealed = result.kind.startswith("resealed")
        lead = "resealed" if is_resealed else "plain"
        title = f"{lead}: {result.outcome}"
        self.outcomes[title] += 1
        of_kind = self.by_kind.setdefault(result.kind, Counter())
        of_kind[result.outcome] += 1
        if result.fault:
            self.faults.append(result)

    def print(self, n_faults: int) -> None:
        """Print the counts, and the first faults."""
        kinds = sorted(self.by_kind.items())
        for kind, outcomes in kinds:
            texts = [f"{n} {outcome}" for outcome, n in outcomes.most_common()]
            line = ", ".join(texts)
            print(f"{kind:<28}", line)
        print()
        total = self.outcomes.most_common()
        for outcome, n in total:
            print(f"{n:>6}  {outcome}")
        first_faults = self.faults[:n_faults]
        for fault in first_faults:
            print(f"FAULT ({fault.fault}) {fault.did}: {fault.message}")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model",
        default="isic2019",
        help="name under models/, or a path",
    )
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--show",
        type=int,
        default=10,
        help="faults to print",
    )
    return parser.parse_args()


def main() -> int:
    """Alter, count and print; return 1 where a folder was neither refused nor the same."""
    options = read_options()
    began = time.monotonic()
    report = Report(Counter(), {}, [])
    with TemporaryDirectory() as place:
        copy = Path(place, "model")
        shutil.copytree(find_model(options.model), copy)
        for result in mutate(copy, options.count, options.seed):
            report.add(result)
    report.print(options.show)
    seconds = time.monotonic() - began
    n_faults = len(report.faults)
    alterations = f"{options.count} alterations in {seconds:.0f} s"
    print(f"{alterations}, seed {options.seed}: {n_faults} faults")
    return 1 if n_faults else 0


if __name__ == "__main__":
    sys.exit(main())
