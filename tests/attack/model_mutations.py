"""Model files mutated by number.

Each mutation takes random numbers, a document and its arrays, or the bytes of a file, and changes or replaces them.
"""

import copy
import json
from functools import lru_cache

import numpy as np

from qatlib.device import shipped
from qatlib.engine.random_models import Shape, random_model
from qatlib.integer_model import artifact, kernels
from tests import several_channels

SEED = 20_000_000
PROGRAMS = 15_000  # mutations of documents; the arrays differ in all files
RANDOM_BASES = range(9_000, 9_012)
SMALL = (
    Shape("patch", tokens=3, patch=5, horizon=5, d_model=8, heads=2),
    Shape("point", tokens=5, patch=1, horizon=3, d_model=5),
    Shape("patch", tokens=1, patch=8, horizon=4, d_model=4),
    Shape("decoder", tokens=2, patch=3, horizon=3, d_model=4, label=2),
)
HOSTILE = (
    None, True, -1, 0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 1 << 15, 1 << 16, 1 << 31, 1 << 63, 1 << 64, 10**30, 0.5,
    1e308, -0.0, "", "a",
    "output", "source", "head", "../x", "*/", "\x00", "a\n", "é", [], {}, [1], [[1]], {"a": 1},
)  # fmt: skip
CHANNEL_FACTS = {
    "anchor": (None, 0, -32769, -32768, 32767, 32768, -77),
    "resolution": (0.001, 1.0, 5e-324, 1e300, 1.7e308, 0.0, -1.0, 3),
    "name": ("a.b-c_9", "channel", "sensor0", "sensor1"),
}
FACTS = {
    "mode": ("independent", "mixed"),
    "targets": ([0], [1], [0, 1], [0, 2], [1, 0], [0, 0], [True], [0.0], [-1]),
    "task": ("forecast", "classify"),
    "labels": ([], ["a", "b"]),
    "threshold": (None, 5),
}


def pick(rng, items):
    return items[int(rng.integers(len(items)))]


def of_document(rng, document, arrays):
    """A value somewhere in the document becomes another one, goes, or is put elsewhere."""
    for _ in range(rng.integers(1, 4)):
        holder = document
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = pick(rng, keys)
            if isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.85:
                holder = holder[key]
                continue
            change = rng.integers(4)
            if change == 0:
                holder[key] = copy.deepcopy(pick(rng, HOSTILE))
            elif change == 1 and isinstance(holder, dict):
                holder[str(pick(rng, HOSTILE))] = holder.pop(key)
            elif change == 2:
                del holder[key]
            elif type(holder[key]) is int:
                holder[key] += int(rng.choice([-1, 1, 2, -128, 1 << 8]))
            break
    return document, arrays


def of_order(rng, document, arrays):
    """Operations change places, come twice, go, or read something else."""
    operations = document["operations"]
    for _ in range(rng.integers(1, 3)):
        i, j = (int(rng.integers(len(operations))) for _ in range(2))
        names = [o["output"] for o in operations]
        change = rng.integers(6)
        if change == 0:
            operations[i], operations[j] = operations[j], operations[i]
        elif change == 1:
            operations.insert(i, copy.deepcopy(operations[j]))
        elif change == 2 and len(operations) > 1:
            del operations[i]
        elif change == 3:
            operations[i]["inputs"] = [pick(rng, names) for _ in range(rng.integers(0, 3))]
        elif change == 4:
            operations[i][pick(rng, ("output", "path"))] = pick(rng, [*names, "head scratch", "a_b", "a.b"])
        elif operations[i]["inputs"]:
            operations[i]["inputs"][int(rng.integers(len(operations[i]["inputs"])))] = pick(rng, names)
    return document, arrays


def of_arrays(rng, document, arrays):
    """Other numbers in the arrays, within what each may hold, or anything; or another length."""
    for name in rng.choice(sorted(arrays), rng.integers(1, 6)):
        array, kind = arrays[name].copy(), name.rpartition(".")[2]
        info = np.iinfo(array.dtype)
        low, high = {
            "m": (1 << 15, 65535),
            "n": (1, 30),
            "k": (1, 24),
            "m1": (-65535, 65535),
            "m2": (-65535, 65535),
        }.get(kind, (info.min, info.max))
        where = rng.random(array.shape) < rng.choice([0.05, 0.5, 1.0])
        extreme = rng.choice([low, high, 0, 1, info.max], array.shape)
        drawn = rng.integers(low, high + 1, array.shape)
        array[where] = (
            np.where(rng.random(array.shape) < 0.3, extreme, drawn).clip(info.min, info.max)[where].astype(array.dtype)
        )
        if kind == "table" and rng.random() < 0.9:
            array[0] = 255
        if kind in ("bias", "c") and rng.random() < 0.8:
            array = (array // pick(rng, (64, 256, 4096))).astype(array.dtype)
        if rng.random() < 0.03:
            array = np.resize(array, max(1, len(array) + int(rng.integers(-2, 3))))
        arrays[name] = array
    return document, arrays


def of_ranges(rng, document, arrays):
    """Tensors with other ranges and zero points, and so all that only move their codes."""
    tensors = document["tensors"]
    for name in rng.choice(sorted(tensors), rng.integers(1, 4)):
        low, high = kernels.code_range(
            int(rng.integers(2, 9)), unsigned=bool(rng.random() < 0.3), narrow=bool(rng.random() < 0.2)
        )
        zero_point = int(rng.choice([0, low, high, rng.integers(low, high + 1)]))
        limits = {"low": int(low), "high": int(high), "zero_point": zero_point}
        for other in linked(document, name):
            tensors[other] = {**tensors[other], **limits}
    return document, arrays


def linked(document, name):
    """The tensors that have the same codes as this one, moved about."""
    moves = [o for o in document["operations"] if o["kind"] in ("reshape", "placeholders", "last_tokens")]
    found = {name}
    for _ in moves:
        for o in moves:
            if found & {o["output"], *o["inputs"]}:
                found |= {o["output"], *o["inputs"]}
    return found & document["tensors"].keys()


def of_insertions(rng, document, arrays):
    """A requantisation or a second reader is put in; a program of another structure."""
    operations, tensors = document["operations"], document["tensors"]
    places = [i for i, o in enumerate(operations) if o["output"] in tensors and len(tensors[o["output"]]["shape"]) == 2]
    i = pick(rng, places)
    name, fresh = operations[i]["output"], f"new{rng.integers(1 << 30)}"
    users = [o for o in operations[i + 1 :] if name in o["inputs"]]
    low, high = kernels.code_range(int(rng.integers(2, 9)), unsigned=bool(rng.random() < 0.2))
    limits = {"low": int(low), "high": int(high), "zero_point": int(rng.choice([0, rng.integers(low, high + 1)]))}
    kind = str(rng.choice(["requantise", "add", "reshape"]))
    alike = [n for n in tensors if tensors[n]["shape"] == tensors[name]["shape"]]
    inputs = [name, pick(rng, alike)] if kind == "add" else [name]
    if kind == "reshape":
        limits = {key: tensors[name][key] for key in ("low", "high", "zero_point")}
    tensors[fresh] = {"shape": tensors[name]["shape"], **limits}
    channels = tensors[name]["shape"][1]
    if kind == "requantise":
        arrays[f"{fresh}.m"] = rng.integers(1 << 15, 1 << 16, 1).astype(np.uint16)
        arrays[f"{fresh}.n"] = rng.integers(12, 20, 1).astype(np.uint8)
    if kind == "add":
        arrays[f"{fresh}.n"] = rng.integers(10, 20, channels).astype(np.uint8)
        arrays |= {f"{fresh}.{m}": rng.integers(-65535, 65536, channels).astype(np.int32) for m in ("m1", "m2", "c")}
    operations.insert(i + 1, {"kind": kind, "path": fresh, "inputs": inputs, "output": fresh, "attributes": {}})
    for user in users:
        if user is users[0] or rng.random() < 0.5:
            user["inputs"] = [fresh if n == name else n for n in user["inputs"]]
    return document, arrays


def of_names(rng, document, arrays):
    """All paths anew, near each other, and of every character that is allowed."""
    paths = [o["path"] for o in document["operations"] if o["kind"] != "output"]
    new = {
        p: "a" + "".join(rng.choice(["_b", ".b", "_", "0", "B", ".output", ".m"], rng.integers(3, 9))) for p in paths
    }
    for o in document["operations"]:
        o["path"], o["output"] = (new.get(o[key], o[key]) for key in ("path", "output"))
        o["inputs"] = [new.get(n, n) for n in o["inputs"]]
    document["tensors"] = {new.get(n, n): t for n, t in document["tensors"].items()}
    split = [(key.rpartition("."), a) for key, a in arrays.items()]
    return document, {f"{new.get(path, path)}.{name}": a for (path, _, name), a in split}


def of_facts(rng, document, arrays):
    """Channels that come, go, or have other facts; mode, targets, and what is of tasks to come."""
    for _ in range(rng.integers(1, 4)):
        change = rng.integers(4)
        if change == 0:
            arrays = of_channels(rng, document, arrays)
            continue
        holder, facts = (document, FACTS) if change == 1 else (pick(rng, document["channels"]), CHANNEL_FACTS)
        fact = pick(rng, list(facts))
        holder[fact] = copy.deepcopy(pick(rng, facts[fact] if rng.random() < 0.8 else HOSTILE))
    return document, arrays


def of_channels(rng, document, arrays):
    """Another number of them; -> the arrays, those of each channel as long as that, or not."""
    channels, count = document["channels"], int(rng.choice([1, 2, 3, 5, 64, 65]))
    more = [{**pick(rng, channels), "name": f"more{i}"} for i in range(count - len(channels))]
    channels[:] = [*channels, *more][:count]
    if rng.random() < 0.9:
        document["targets"] = list(range(count))
    ends = [f"{document['operations'][i]['path']}.{name}" for i in (0, -1) for name in ("m", "n")]
    return arrays | {end: np.resize(arrays[end], count) for end in ends if rng.random() < 0.95}


DOCUMENTS = (of_document, of_order, of_arrays, of_ranges, of_insertions, of_names, of_facts)


def of_bytes(rng, raw):
    raw = bytearray(raw)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(len(raw))) if rng.random() < 0.5 else int(rng.integers(min(len(raw), 600)))
        change = rng.integers(4)
        if change == 0:
            raw[at] ^= 1 << int(rng.integers(8))
        elif change == 1:
            raw[at : at + int(rng.integers(1, 9))] = rng.bytes(int(rng.integers(0, 9)))
        elif change == 2:
            del raw[at:]
        else:
            raw += rng.bytes(int(rng.integers(1, 20)))
        if len(raw) < 2:
            break
    return bytes(raw)


def of_table(rng, raw):
    """The header's table or its document's text, the checksum made anew."""
    length = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    metadata = header.pop("__metadata__")
    names = sorted(header)
    change = rng.integers(7)
    entry = header[pick(rng, names)]
    if change == 0:
        entry[pick(rng, ("dtype", "shape", "data_offsets"))] = copy.deepcopy(pick(rng, HOSTILE))
    elif change == 1:
        entry["data_offsets"] = list(header[pick(rng, names)]["data_offsets"])
    elif change == 2:
        entry["data_offsets"] = [int(v + rng.choice([-8, -1, 1, 8])) for v in entry["data_offsets"]]
    elif change == 3:
        entry["shape"] = [int(rng.integers(0, 5)) for _ in range(rng.integers(0, 9))] + list(entry["shape"])
    elif change == 4:
        header[str(pick(rng, HOSTILE))] = copy.deepcopy(entry)
    elif change == 5:
        text, at = metadata["model"], int(rng.integers(len(metadata["model"])))
        depth = int(rng.choice([1, 40, 5000, 100_000]))
        pieces = ("[" * depth, "]", '"', "\\", "NaN", "9" * depth, "1e999", ",", '{"a":', "\ud800")
        metadata["model"] = (text[:at] + pick(rng, pieces) + text[at:])[:900_000]
    else:
        metadata[pick(rng, ("version", "format", "model"))] = copy.deepcopy(pick(rng, HOSTILE))
    try:
        metadata["sha256"] = artifact._checksum(metadata["model"], header, data)
    except TypeError:
        pass
    text = json.dumps({"__metadata__": metadata, **header}).encode()
    return len(text).to_bytes(8, "little") + text + data


BYTES = (of_bytes, of_table)
MUTATIONS = (*BYTES, *DOCUMENTS)


@lru_cache
def bases():
    """(bytes of a file, its document as text, its arrays); most of small models, for speed."""
    weather = [shipped.load("jfk-weather", name) for name in shipped.names("jfk-weather")]
    narrow = [name for name in shipped.names("etth1") if name.startswith(("point-w12", "point-w24"))]
    narrow = [shipped.load("etth1", name) for name in narrow]
    small = [random_model(seed, shape) for shape in SMALL for seed in RANDOM_BASES]
    several = [*several_channels.MODELS.values(), *(several_channels.independent(seed, 2) for seed in RANDOM_BASES)]
    several += [several_channels.mixed(seed, 3, (0, 2)) for seed in RANDOM_BASES]
    several += [*several_channels.CLASSIFIERS.values(), *several_channels.DETECTORS.values()]
    files = [model.to_bytes() for model in (*weather, *narrow, *map(random_model, RANDOM_BASES), *small, *several)]
    return [
        (raw, json.dumps(document), arrays)
        for raw, (document, arrays) in ((raw, artifact._decode(raw)) for raw in files)
    ]


def mutated(seed):
    """-> (the mutation's name, the bytes of a file)"""
    rng, same = np.random.default_rng(seed), np.random.default_rng(seed % PROGRAMS)
    (raw, text, arrays), mutation = pick(same, bases()), pick(same, MUTATIONS)
    if mutation in BYTES:
        return mutation.__name__, mutation(rng, raw)
    document, arrays = mutation(same, json.loads(text), dict(arrays))
    if mutation is of_arrays or rng.random() < 0.5:
        document, arrays = of_arrays(rng, document, arrays)
    return mutation.__name__, artifact.encode(document, arrays)
