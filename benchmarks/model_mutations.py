"""Alters a model folder in thousands of ways and counts what becomes of it.

Every altered folder has to be refused at load by one readable ModelInvalid that names what is wrong, or to answer
exactly as before. Never another exception, never a hang, never a failure when it is used.

    python benchmarks/model_mutations.py --model isic2019 --count 5000 --seed 0

Two kinds of alteration are made. A `plain` one changes files, as a slip or a bad disk does. A `resealed` one writes the
hashes anew as well, as a person can: it may give another answer, but then the model has another id or is refused by its
golden answers, and it may not fail in any other way.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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
    "null", "true", "false", '"x"', "-1", "0", "1", "0.5", "1e308", "NaN", "Infinity", "-Infinity", "1e999", "[]", "{}",
    "[[]]", '{"x": 1}', "1" + "0" * 400, "1" + "0" * 5000, "[" * 100_000, '"' + "x" * 1_000_000 + '"', '"\\ud800"',
    '""', '"\\u0000"', "-0.0", "5e-324", '"0.5"', "9007199254740993",
)  # fmt: skip

Alteration = Callable[[Path, random.Random], str]
"""Changes a folder and returns what it did; "" where that was not possible."""


@dataclass(frozen=True)
class Result:
    """What became of one altered folder; `fault` is empty where that is as promised."""

    kind: str
    did: str
    outcome: str
    message: str = ""
    fault: str = ""


def replace(path: Path, data: bytes) -> None:
    """Write another file in the place of one: the files of the folder are hard links to the originals."""
    path.unlink()
    path.write_bytes(data)


def some_file(folder: Path, rng: random.Random) -> Path:
    """Choose a file; the small ones, which decide most, as often as the large ones."""
    return rng.choice(sorted(path for path in folder.iterdir() if path.is_file()))


# What happens to bytes and files.


def flip_bit(folder: Path, rng: random.Random) -> str:
    """Flip one bit of a file."""
    path = some_file(folder, rng)
    data = bytearray(path.read_bytes())
    place = rng.randrange(len(data))
    data[place] ^= 1 << rng.randrange(8)
    replace(path, bytes(data))
    return f"{path.name}: bit flipped in byte {place}"


def zero_range(folder: Path, rng: random.Random) -> str:
    """Zero some bytes, as a bad disk does."""
    path = some_file(folder, rng)
    data = bytearray(path.read_bytes())
    first = rng.randrange(len(data))
    last = min(len(data), first + rng.choice([1, 16, 512, 4096]))
    data[first:last] = bytes(last - first)
    replace(path, bytes(data))
    return f"{path.name}: bytes {first} to {last} zeroed"


def truncate(folder: Path, rng: random.Random) -> str:
    """Cut a file."""
    path = some_file(folder, rng)
    data = path.read_bytes()
    length = rng.choice([0, 1, 8, len(data) // 2, len(data) - 1, rng.randrange(len(data))])
    replace(path, data[:length])
    return f"{path.name}: truncated to {length} bytes"


def append(folder: Path, rng: random.Random) -> str:
    """Add bytes at the end."""
    path = some_file(folder, rng)
    extra = rng.choice([b"\0", b"\n", b" ", b"{}", b"x" * 5000])
    replace(path, path.read_bytes() + extra)
    return f"{path.name}: {len(extra)} bytes added at the end"


def insert_bytes(folder: Path, rng: random.Random) -> str:
    """Insert random bytes."""
    path = some_file(folder, rng)
    data = path.read_bytes()
    place = rng.randrange(len(data))
    replace(path, data[:place] + rng.randbytes(rng.choice([1, 2, 100])) + data[place:])
    return f"{path.name}: bytes inserted at {place}"


def remove(folder: Path, rng: random.Random) -> str:
    """Remove a file."""
    path = some_file(folder, rng)
    path.unlink()
    return f"{path.name}: removed"


def swap(folder: Path, rng: random.Random) -> str:
    """Swap two files."""
    one, other = rng.sample(sorted(path for path in folder.iterdir() if path.is_file()), 2)
    aside = folder / ".swap"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    return f"{one.name}: swapped with {other.name}"


def add_entry(folder: Path, rng: random.Random) -> str:
    """Add a file, a folder, a pipe or a link."""
    name = rng.choice(
        [
            "notes.txt",
            ".DS_Store",
            "weights.bin",
            "model.onnx.data",
            "Model.json",
            "golden.json.bak",
        ]
    )
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


def make_special(folder: Path, rng: random.Random) -> str:
    """Put something else in the place of a file: a folder, a pipe, a link."""
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
        others = sorted(other for other in folder.iterdir() if other.is_file())
        path.symlink_to(rng.choice(others).name)
    else:
        twin = folder.parent / f"twin of {path.name}"
        twin.write_bytes(data)
        path.symlink_to(twin)
    return f"{path.name}: replaced by a {kind}" + (
        " of the same content" if kind == "same file" else ""
    )


# What happens to values.


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value below a JSON value."""
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def at(content: Any, path: tuple[Any, ...]) -> Any:
    """Return the value at a path."""
    for key in path:
        content = content[key]
    return content


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file."""
    replace(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def json_place(folder: Path, rng: random.Random) -> tuple[Path, Any, tuple[Any, ...]]:
    """Choose a JSON file and the path of a value in it."""
    path = folder / rng.choice([name for name in JSON_FILES if (folder / name).exists()])
    content = json.loads(path.read_bytes())
    # From the top downwards, so that the many curves of metrics.json do not take all the turns.
    place: tuple[Any, ...] = ()
    while True:
        below = at(content, place)
        if not isinstance(below, dict | list) or not below or (place and rng.random() < 0.25):
            return path, content, place
        place = (*place, rng.choice(list(below) if isinstance(below, dict) else range(len(below))))


def remove_key(folder: Path, rng: random.Random) -> str:
    """Remove a key or an item of a JSON file."""
    path, content, place = json_place(folder, rng)
    del at(content, place[:-1])[place[-1]]
    write_json(path, content)
    return f"{path.name}: {place} removed"


def odd_value(folder: Path, rng: random.Random) -> str:
    """Give a key a value of another type, or one that is no number."""
    path, content, place = json_place(folder, rng)
    value = rng.choice(ODD_VALUES)
    at(content, place[:-1])[place[-1]] = "@here@"
    text = json.dumps(content, indent=2, ensure_ascii=False).replace('"@here@"', value)
    replace(path, text.encode())
    return f"{path.name}: {place} is {value[:30]}"


def duplicate_key(folder: Path, rng: random.Random) -> str:
    """Write a key twice."""
    path, content, place = json_place(folder, rng)
    parent = at(content, place[:-1])
    if not isinstance(parent, dict):
        return ""
    again = dict(parent)
    again["@again@"] = rng.choice([None, 0.99, "x", parent[place[-1]]])
    if len(place) > 1:
        at(content, place[:-2])[place[-2]] = again
    else:
        content = again
    text = json.dumps(content, indent=2, ensure_ascii=False).replace(
        '"@again@"', json.dumps(place[-1])
    )
    replace(path, text.encode())
    return f"{path.name}: {place} twice"


def rename_key(folder: Path, rng: random.Random) -> str:
    """Rename a key."""
    path, content, place = json_place(folder, rng)
    parent = at(content, place[:-1])
    if not isinstance(parent, dict):
        return ""
    value = parent.pop(place[-1])
    parent[rng.choice(["surprise", "", "a\nb", "x" * 100_000, str(place[-1]).upper() + "_"])] = (
        value
    )
    write_json(path, content)
    return f"{path.name}: {place} renamed"


def move_number(folder: Path, rng: random.Random) -> str:
    """Change a number a little."""
    path, content, place = json_place(folder, rng)
    value = at(content, place)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    at(content, place[:-1])[place[-1]] = rng.choice(
        [value + 1, value * 1.01, -value, value / 2, 1 - value]
    )
    write_json(path, content)
    return f"{path.name}: {place} moved"


def permute(folder: Path, rng: random.Random) -> str:
    """Change the order of a list."""
    path, content, _ = json_place(folder, rng)
    lists = [
        one
        for one in places(content)
        if isinstance(at(content, one), list) and len(at(content, one)) > 1
    ]
    if not lists:
        return ""
    chosen = rng.choice(lists[:200])
    rng.shuffle(at(content, chosen))
    write_json(path, content)
    return f"{path.name}: {chosen} permuted"


def move_threshold(folder: Path, rng: random.Random) -> str:
    """Move a threshold."""
    path = folder / manifest.RECORD_FILE
    content = json.loads(path.read_bytes())
    point = rng.choice(content["operating_points"])
    point["threshold"] = rng.choice([0.0, 0.5, 0.99, 1.0, point["threshold"] + 1e-9, rng.random()])
    write_json(path, content)
    return f"{path.name}: threshold {point['name']} is {point['threshold']}"


def move_answer_field(folder: Path, rng: random.Random) -> str:
    """Change a field that decides an answer."""
    path = folder / manifest.RECORD_FILE
    content = json.loads(path.read_bytes())
    what = rng.choice(
        [
            "temperature",
            "bias",
            "quantile",
            "no quantile",
            "codes",
            "limit",
            "mean",
            "size",
            "layer",
        ]
    )
    if what == "temperature":
        content["temperature"][rng.choice(["small", "large"])] *= rng.choice([0.5, 2, 1e-9, 1e9])
    elif what == "bias":
        content["bias"][rng.randrange(8)] += rng.choice([1e-6, 1, -50, 1e9])
    elif what == "quantile":
        content["conformal"]["quantiles"][rng.choice(content["codes"])] = rng.choice([0, 0.5, 1, 2])
    elif what == "no quantile":
        del content["conformal"]["quantiles"][rng.choice(content["codes"])]
    elif what == "codes":
        rng.shuffle(content["codes"])
    elif what == "limit" and content["novelty"]:
        content["novelty"]["limit"] *= rng.choice([0.1, 10, 1e-9, 1e300])
    elif what == "mean":
        content["input"]["mean"][rng.randrange(3)] = rng.random()
    elif what == "size":
        content["input"]["size_px"] = rng.choice([32, 64, 96, 4096, 10**9])
    else:
        content["saliency_layer"] = rng.choice(["", "conv_stem", "nothing"])
    write_json(path, content)
    return f"{path.name}: {what} moved"


def edit_text(folder: Path, rng: random.Random) -> str:
    """Edit the card or the split."""
    path = folder / rng.choice([manifest.CARD_FILE, manifest.SPLIT_FILE])
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8")
    one, other = rng.choice(
        [
            ("0.9", "1.0"),
            ("train", "test"),
            ("test", "train"),
            (" not ", " "),
            ("\n", "\r\n"),
            ("ISIC", "isic"),
        ]
    )
    if one not in text:
        return ""
    replace(path, text.replace(one, other, rng.choice([1, -1])).encode())
    return f"{path.name}: {one!r} became {other!r}"


def change_header(folder: Path, rng: random.Random) -> str:
    """Change the JSON header of a safetensors file."""
    path = folder / rng.choice([name for name in TENSOR_FILES if (folder / name).exists()])
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = rng.choice([key for key in header if key != "__metadata__"])
    what = rng.choice(
        ["length", "dtype", "shape", "offsets", "name", "remove", "transpose", "swap"]
    )
    if what == "length":
        replace(path, rng.choice([0, 1, 2**40, 2**63, length + 1]).to_bytes(8, "little") + data[8:])
        return f"{path.name}: header length"
    if what == "dtype":
        header[name]["dtype"] = rng.choice(
            ["F64", "BF16", "F8_E4M3", "U16", "BOOL", "I64", "X", 5, None]
        )
    elif what == "shape":
        header[name]["shape"] = rng.choice(
            [[], [0], [-1], [2**62, 4], [1, *header[name]["shape"]], "x"]
        )
    elif what == "offsets":
        header[name]["data_offsets"] = rng.choice([[0, 0], [0, 2**60], [5, 1], [-1, 4], []])
    elif what == "name":
        header[rng.choice(["surprise", "", "basis.scale"])] = header.pop(name)
    elif what == "remove":
        del header[name]
    elif what == "transpose":
        header[name]["shape"] = header[name]["shape"][::-1]
    else:
        other = rng.choice([key for key in header if key != "__metadata__"])
        header[name], header[other] = header[other], header[name]
    text = json.dumps(header).encode()
    replace(path, len(text).to_bytes(8, "little") + text + data[8 + length :])
    return f"{path.name}: {what} of {name}"


def change_graph(folder: Path, rng: random.Random) -> str:
    """Change names and operators of the ONNX graph, keeping their length so that it stays a graph."""
    path = folder / manifest.ONNX_FILE
    data = path.read_bytes()
    one, other = rng.choice(
        [
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
        ]
    )
    if one not in data:
        return ""
    replace(path, data.replace(one, other, rng.choice([1, -1])))
    return f"{path.name}: {one!r} became {other!r}"


PLAIN: tuple[Alteration, ...] = (
    flip_bit, flip_bit, zero_range, truncate, append, insert_bytes, remove, swap, add_entry, make_special, remove_key,
    odd_value, odd_value, odd_value, duplicate_key, rename_key, move_number, move_number, permute, move_threshold,
    move_answer_field, edit_text, change_header, change_graph,
)  # fmt: skip
RESEALED: tuple[Alteration, ...] = (
    flip_bit, zero_range, truncate, remove_key, odd_value, rename_key, move_number, permute, move_threshold,
    move_answer_field, change_header, change_graph,
)  # fmt: skip


def reseal(folder: Path) -> None:
    """Write the hashes of a folder anew as far as that is possible, without a look at what they are of."""
    path = folder / manifest.RECORD_FILE
    try:
        raw = json.loads(path.read_bytes())
        listed = json.loads((folder / manifest.MANIFEST_FILE).read_bytes())
        names = sorted(name for name in manifest.FILES if (folder / name).is_file())
        facts = {name: manifest.file_facts((folder / name).read_bytes()) for name in names}
        raw["weights_sha256"] = facts[manifest.WEIGHTS_FILE].sha256
        raw["onnx_sha256"] = facts[manifest.ONNX_FILE].sha256
        for key, name in (
            ("neighbours", manifest.NEIGHBOURS_FILE),
            ("novelty", manifest.NOVELTY_FILE),
        ):
            if raw[key]:
                raw[key]["sha256"] = facts[name].sha256
        replace(path, json.dumps(raw, indent=2).encode())
        facts[manifest.RECORD_FILE] = manifest.file_facts(path.read_bytes())
        field_digests(raw)
        try:
            model_id = record_from_json(raw, path).model_id
        except ModelInvalid:
            model_id = listed["model"]
        text = manifest.manifest_text(model_id, facts, raw)
        replace(folder / manifest.MANIFEST_FILE, text.encode())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return  # the file that would have to be changed cannot be read any more


@dataclass(frozen=True)
class Known:
    """What the unaltered model answers and shows."""

    model_id: str
    answers: list[dict[str, Any]]
    shown: dict[str, bytes]


def lesions() -> list[Image.Image]:
    """Return two drawn lesions, other ones than those of golden.json."""
    return [
        Image.fromarray(render_lesion("NV", 7, 200)),
        Image.fromarray(render_lesion("MEL", 7, 120)),
    ]


def answers(model: Model, images: list[Image.Image]) -> list[dict[str, Any]]:
    """Return all that is said of the images, at each operating point."""
    points = [point.name for point in model.record.operating_points]
    return [assess(model, image, point).to_json() for image in images for point in points]


def shown(folder: Path) -> dict[str, bytes]:
    """Return the files that pages show figures of."""
    names = (METRICS_FILE, manifest.CARD_FILE, manifest.SPLIT_FILE)
    return {name: read_checked(folder, name) or b"" for name in names}


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what takes longer."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def linked(original: Path, folder: Path) -> None:
    """Make a folder with links to the files of another."""
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in original.iterdir():
        os.link(path, folder / path.name)


def tried(
    folder: Path, known: Known, images: list[Image.Image], kind: str, did: str, *, plain: bool
) -> Result:
    """Load an altered folder and use the model; return what became of it."""
    names = [did.partition(":")[0], *re.findall("swapped with (.+)", did)]
    try:
        with limit(LIMIT_SECONDS):
            model = Model.load(folder)
    except ModelInvalid as error:
        message = str(error)
        fault = ""
        if "\n" in message or len(message) > LONGEST_MESSAGE:
            fault = "its message is not one readable line"
        elif plain and not any(name in message for name in names):
            fault = f"its message does not name {' or '.join(names)}"
        return Result(kind, did, "refused", message, fault)
    except Exception as error:  # noqa: BLE001 - any is a fault, and counted as one
        return Result(
            kind,
            did,
            "another exception at load",
            f"{type(error).__name__}: {str(error)[:300]}",
            "at load",
        )
    return used(folder, model, known, images, kind, did, plain=plain)


def used(
    folder: Path,
    model: Model,
    known: Known,
    images: list[Image.Image],
    kind: str,
    did: str,
    *,
    plain: bool,
) -> Result:
    """Use a model that an altered folder gave; return what became of it."""
    same_id = model.record.model_id == known.model_id
    try:
        with limit(LIMIT_SECONDS):
            same = answers(model, images) == known.answers and shown(folder) == known.shown
    except Exception as error:  # noqa: BLE001 - any is a fault, and counted as one
        return Result(
            kind,
            did,
            "failed when it was used",
            f"{type(error).__name__}: {str(error)[:300]}",
            "at use",
        )
    if same and same_id:
        return Result(kind, did, "same answers and figures")
    if plain:
        return Result(kind, did, "changed unnoticed", "", "another answer or figure without a word")
    # A person wrote the hashes anew: what decides an answer shows in the id, a figure or a text does not.
    return Result(kind, did, "other figures, same id" if same_id else "another id")


def mutate(original: Path, count: int, seed: int, *, every_verify: int = 50) -> Iterator[Result]:
    """Alter copies of a model folder `count` times, a fifth of them resealed, and yield what became of each."""
    rng = random.Random(seed)
    images = lesions()
    model = Model.load(original)
    known = Known(model.record.model_id, answers(model, images), shown(original))
    with TemporaryDirectory(dir=original.parent) as place:
        folder = Path(place, "altered", original.name)
        for number in range(count):
            plain = number % 5 != 4
            did, alter = "", PLAIN[0]
            while not did:
                linked(original, folder)
                alter = rng.choice(PLAIN if plain else RESEALED)
                did = alter(folder, rng)
            if not plain:
                reseal(folder)
            kind = alter.__name__ if plain else f"resealed {alter.__name__}"
            result = tried(folder, known, images, kind, did, plain=plain)
            if plain and number % every_verify == 0 and not result.fault:
                result = checked_by_verify(folder, original, result)
            yield result


def checked_by_verify(folder: Path, original: Path, result: Result) -> Result:
    """Return a result with the fault that `verify` calls a changed folder unchanged, or names nothing of it."""
    same = {path.name for path in folder.iterdir()} == {
        path.name for path in original.iterdir()
    } and all(
        path.is_file() and path.read_bytes() == (original / path.name).read_bytes()
        for path in folder.iterdir()
    )
    whitespace = result.outcome == "same answers and figures" and "manifest" in result.did
    if verify(folder).unchanged and not same and not whitespace:
        return Result(result.kind, result.did, "unchanged for verify", "", "verify did not name it")
    return result


def main() -> int:
    """Alter, count and print; return 1 where a folder was neither refused nor the same."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="isic2019", help="name under models/, or a path")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=10, help="faults to print")
    options = parser.parse_args()
    began = time.monotonic()
    counts: Counter[str] = Counter()
    by_kind: dict[str, Counter[str]] = {}
    faults: list[Result] = []
    with TemporaryDirectory() as place:
        original = Path(shutil.copytree(find_model(options.model), Path(place, "model")))
        for result in mutate(original, options.count, options.seed):
            lead = "resealed: " if result.kind.startswith("resealed") else "plain: "
            counts[lead + result.outcome] += 1
            by_kind.setdefault(result.kind, Counter())[result.outcome] += 1
            if result.fault:
                faults.append(result)
    for kind, outcomes in sorted(by_kind.items()):
        print(f"{kind:<28}", ", ".join(f"{n} {outcome}" for outcome, n in outcomes.most_common()))
    print()
    for outcome, n in counts.most_common():
        print(f"{n:>6}  {outcome}")
    for fault in faults[: options.show]:
        print(f"FAULT ({fault.fault}) {fault.did}: {fault.message}")
    seconds = time.monotonic() - began
    print(
        f"{options.count} alterations in {seconds:.0f} s, seed {options.seed}: {len(faults)} faults"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
