"""The models that a device holds: numbered, each with the guard of its sensor's state; one is in use, and the one
before it can come back.

A folder with a folder for each version, `0001/` with `model.safetensors` and `guard.json`, and `in_use.json`, the
versions that were in use, the present one last. Each appears whole or not at all, so a device that loses its power in
an update still starts with a model: the one before or the new one. Any number of processes may read and write.
"""

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path

from qatlib.device.guard import Guard, Limits
from qatlib.integer_model import artifact
from qatlib.integer_model.artifact import ArtifactError
from qatlib.integer_model.model import IntegerModel
from qatlib.system import disk

IN_USE, GUARD, MODEL = "in_use.json", "guard.json", "model.safetensors"
CHOOSE = "remove it and choose a version with use()"
JSON_LIMIT = 1 << 20  # bytes
LAST = 10**9
NAMES = {kind: {field.name for field in fields(kind)} for kind in (Guard, Limits)}


class Versions:
    """The versions in a folder, which is made where there is none. ArtifactError names a file that is missing or
    damaged; TimeoutError who has been writing for disk.WAIT seconds; an OSError leaves everything as it was."""

    def __init__(self, folder):
        self.folder = Path(folder)
        disk.make(self.folder)

    def add(self, model, guard):
        """Keep an IntegerModel and its Guard; what is in use stays in use. -> the new version's number; ValueError
        where the guard is for other windows."""
        guard.require(model)
        content = model.to_bytes()
        document = {"guard": asdict(guard), "sha256": _checksum(asdict(guard), content)}
        with disk.locked(self.folder):
            disk.clear(self.folder)
            version = max((int(path.name) for path in self.folder.iterdir() if path.name.isdecimal()), default=0) + 1
            disk.put(self._place(version), {MODEL: content, GUARD: json.dumps(document).encode()})
        return version

    def load(self, version):
        """-> (IntegerModel, Guard)"""
        place = self._place(version)
        for file in (place / GUARD, place / MODEL):
            if not file.is_file():
                raise ArtifactError(f"{file} is missing: there is no version {version}; add it, or use another one")
        model, document = IntegerModel.load(place / MODEL), _json(place / GUARD, "add the version again")
        limits = document.get("guard") if isinstance(document, dict) else None
        try:
            guard = _guard(limits)
            guard.require(model)
        except ValueError as error:
            raise ArtifactError(f"{place / GUARD}: {error}; add the version again") from None
        if document.get("sha256") != _checksum(limits, (place / MODEL).read_bytes()):
            raise ArtifactError(
                f"{place}: the checksum does not match, model or guard is damaged; add the version again"
            )
        return model, guard

    @property
    def history(self):
        """The versions that were in use, oldest first; the last one is."""
        path = self.folder / IN_USE
        found = _json(path, CHOOSE) if path.is_file() else []
        if not isinstance(found, list) or not all(_is_number(version) for version in found):
            raise ArtifactError(f"{path}: no list of version numbers; {CHOOSE}")
        return found

    def current(self):
        """The version in use, as a device wants it after its start. -> (IntegerModel, Guard); ValueError where there is
        none."""
        history = self.history
        if not history:
            raise ValueError(f"{self.folder}: no version is in use; choose one with use()")
        return self.load(history[-1])

    def use(self, version):
        """Put a version in use, if it can be read. -> (IntegerModel, Guard)"""
        with disk.locked(self.folder):
            loaded, history = self.load(version), self.history
            if history[-1:] != [version]:
                self._remember([*history, version])
        return loaded

    def roll_back(self):
        """Put the version in use that was before this one. -> (IntegerModel, Guard); ValueError where there was
        none."""
        with disk.locked(self.folder):
            history = self.history[:-1]
            if not history:
                raise ValueError(f"{self.folder}: no version was in use before this one")
            loaded = self.load(history[-1])
            self._remember(history)
        return loaded

    def _remember(self, history):
        disk.clear(self.folder)
        disk.write(self.folder / IN_USE, json.dumps(history).encode())

    def _place(self, version):
        if not _is_number(version):
            raise ArtifactError(f"{self.folder}: versions have numbers, 1 to {LAST}, and this is none; see history")
        return self.folder / f"{version:04d}"


def _is_number(version):
    return type(version) is int and 1 <= version <= LAST


def _guard(entry):
    """What `asdict` made of a Guard, read from a file. ValueError for anything else."""
    entry = _fields(Guard, entry, "the guard")
    if not isinstance(entry["channels"], list):
        raise ValueError("the guard's channels must be a list")
    channels = [_fields(Limits, c, f"channel {i} of the guard") for i, c in enumerate(entry["channels"])]
    return Guard(**entry | {"channels": tuple(Limits(**c) for c in channels)})


def _fields(kind, entry, what):
    if not isinstance(entry, dict) or entry.keys() != NAMES[kind]:
        raise ValueError(f"{what} must have {', '.join(sorted(NAMES[kind]))}, and nothing else")
    return entry


def _checksum(limits, model):
    return hashlib.sha256(json.dumps(limits, sort_keys=True).encode() + model).hexdigest()


def _json(path, remedy):
    try:
        return artifact.parse_json(artifact.read_bytes(path, JSON_LIMIT))
    except ValueError:
        raise ArtifactError(f"{path}: not JSON, the file is damaged; {remedy}") from None
