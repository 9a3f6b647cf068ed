"""The models that a device holds: numbered, each with the guard of its sensor's state; one is in use, and the one before it can come back.

A folder with `0001.safetensors` and `0001.json` (the guard) for each version, and `in_use.json`, the versions that were in use, the present
one last. Every file appears whole or not at all, so a device that loses its power in an update still starts with a model.
"""

import json
from dataclasses import asdict, fields
from pathlib import Path

from qatlib import artifact
from qatlib.artifact import ArtifactError
from qatlib.guard import Guard
from qatlib.integer_model import IntegerModel

IN_USE = "in_use.json"
CHOOSE = "remove it and choose a version with use()"


class Versions:
    """The versions in a folder, which is made where there is none. ArtifactError names a file that is missing or damaged."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, model, guard):
        """Keep an IntegerModel and its Guard; what is in use stays in use. -> the new version's number"""
        version = max([int(path.stem) for path in self.folder.glob("*.safetensors") if path.stem.isdecimal()], default=0) + 1
        artifact.write(self._file(version, "json"), json.dumps(asdict(guard)).encode())
        artifact.write(self._file(version, "safetensors"), model.to_bytes())
        return version

    def load(self, version):
        """-> (IntegerModel, Guard)"""
        path, model = (self._file(version, suffix) for suffix in ("json", "safetensors"))
        for file in (path, model):
            if not file.is_file():
                raise ArtifactError(f"{file} is missing: there is no version {version}; add it, or use another one")
        limits = _json(path, "add the version again")
        names = {field.name for field in fields(Guard)}
        if not isinstance(limits, dict) or limits.keys() != names or any(type(value) is not int for value in limits.values()):
            raise ArtifactError(f"{path}: not the whole numbers {', '.join(sorted(names))} of a guard; add the version again")
        return IntegerModel.load(model), Guard(**limits)

    @property
    def history(self):
        """The versions that were in use, oldest first; the last one is."""
        path = self.folder / IN_USE
        found = _json(path, CHOOSE) if path.is_file() else []
        if not isinstance(found, list) or any(type(version) is not int for version in found):
            raise ArtifactError(f"{path}: no list of version numbers; {CHOOSE}")
        return found

    def current(self):
        """The version in use, as a device wants it after its start. -> (IntegerModel, Guard); ValueError where there is none."""
        if not self.history:
            raise ValueError(f"{self.folder}: no version is in use; choose one with use()")
        return self.load(self.history[-1])

    def use(self, version):
        """Put a version in use, if it can be read. -> (IntegerModel, Guard)"""
        loaded, history = self.load(version), self.history
        if history[-1:] != [version]:
            self._remember([*history, version])
        return loaded

    def roll_back(self):
        """Put the version in use that was before this one. -> (IntegerModel, Guard); ValueError where there was none."""
        history = self.history[:-1]
        if not history:
            raise ValueError(f"{self.folder}: no version was in use before this one")
        loaded = self.load(history[-1])
        self._remember(history)
        return loaded

    def _remember(self, history):
        artifact.write(self.folder / IN_USE, json.dumps(history).encode())

    def _file(self, version, suffix):
        return self.folder / f"{version:04d}.{suffix}"


def _json(path, remedy):
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise ArtifactError(f"{path}: not JSON, the file is damaged; {remedy}") from None
