"""Where features lie: a folder of arrays, or WebDataset tars with arrays as members."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ...shards.errors import DamageError, UsageError
from ...shards.features import Stored
from ..sources.folder import printable, walk
from ..sources.tars import FEATURE_EXTENSIONS, expand, is_tar_pattern, tar_members, tars_of
from .arrays import MAX_SAMPLE_BYTES, check_not_pickled, split_member, tensors_of


class Part(NamedTuple):
    """A file, or a stretch of a tar."""

    path: str
    kind: str
    """One of FEATURE_EXTENSIONS."""
    tensor: str
    """Name of the tensor where the file has none of its own; "" where nobody says one."""
    offset: int = 0
    size: int = -1
    """-1 for the whole file."""


@dataclass(frozen=True, slots=True)
class Found:
    """The features of one sample."""

    name: str
    """Path without extension, or a tar's sample name."""
    parts: tuple[Part, ...]

    def read(self, tensor: str) -> dict[str, Stored]:
        """Its tensors.

        Args:
            tensor: name of what has none.

        Raises:
            DamageError: a file does not read, or two give one tensor.
        """
        tensors: dict[str, Stored] = {}
        for part in self.parts:
            for name, value in tensors_of(_bytes(part), part.kind, part.tensor or tensor).items():
                if name in tensors:
                    raise DamageError(f"two files give the tensor {name!r}")
                tensors[name] = value
        return tensors


def find(source: Path) -> Iterator[Found]:
    """The features in a folder, in a tar or in a brace pattern of tars; those of one name may come in pieces.

    In a folder, each file is a sample's: `<name>.npy` holds one tensor, `.npz` and `.safetensors` name theirs. In tars,
    and so in a folder that holds some, webdataset's rule is kept: a sample is what precedes the first dot of a file's
    name, `<sample>.<tensor>.npy` names the tensor.

    Raises:
        UsageError: nothing there, files that would have to be unpickled, or a tar that does not read.
    """
    if source.is_dir():
        tars, _ = tars_of(source)
        yield from _of_tars(tars) if tars else _of_folder(source)
    elif is_tar_pattern(str(source)):
        yield from _of_tars(expand(str(source)))
    else:
        raise UsageError(
            f"features must be a folder of {', '.join(FEATURE_EXTENSIONS)} files, or tars of them, got {source}"
        )


def _of_folder(folder: Path) -> Iterator[Found]:
    root = str(folder.absolute())
    for path in walk(folder):
        check_not_pickled(path)
        stem, kind = os.path.splitext(path)
        if kind.lower() in FEATURE_EXTENSIONS:
            yield Found(printable(stem), (Part(os.path.join(root, path), kind.lower(), ""),))


def _of_tars(tars: list[str]) -> Iterator[Found]:
    for path in tars:
        with open(path, "rb") as file:
            name, parts = "", list[Part]()
            for member in tar_members(file, path):
                if isinstance(member, str):
                    raise UsageError(f"features {path} must be a whole tar, but {member}")
                check_not_pickled(member.name)
                folder, slash, file_name = member.name.removeprefix("./").rpartition("/")
                stem, _, extension = file_name.partition(".")
                told = split_member(extension)
                if told is None or not member.isreg() or member.issparse():
                    continue
                key = f"{folder}{slash}{stem}"
                if key != name and parts:
                    yield Found(printable(name), tuple(parts))
                    parts = []
                name = key
                parts.append(Part(path, told[1], told[0], member.offset_data, member.size))
            if parts:
                yield Found(printable(name), tuple(parts))


def _bytes(part: Part) -> bytes:
    try:
        with open(part.path, "rb") as file:
            size = os.fstat(file.fileno()).st_size if part.size < 0 else part.size
            if size > MAX_SAMPLE_BYTES:
                raise DamageError(f"{size} bytes, at most {MAX_SAMPLE_BYTES} are taken")
            file.seek(part.offset)
            data = file.read(size)
    except OSError as error:
        raise DamageError(f"cannot be read: {error.strerror}") from error
    if len(data) != size:
        raise DamageError(f"ends after {len(data)} of {size} bytes")
    return data
