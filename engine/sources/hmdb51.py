"""HMDB51: class folders of clips, and three official splits of 51 files each, `<class>_test_split<fold>.txt`:

    April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1

The flag is 1 for training, 2 for testing, 0 for neither.
"""

from collections.abc import Iterator

from ...shards.errors import UsageError
from .asked import Asked
from .records import read_lines
from .rows import InputRow

_FLAGS = {"0": "unused", "1": "train", "2": "test"}


def hmdb51_rows(asked: Asked) -> Iterator[InputRow]:
    """A row per clip of the fold, those of neither split as split `unused`; ids are `<class>/<clip>`."""
    for path in asked.lists(f"*_test_split{asked.fold}.txt"):
        label, separator, _ = path.name.partition("_test_split")
        if not separator:
            raise UsageError(f"input {path} must be called <class>_test_split<fold>.txt")
        for number, line in read_lines(path):
            name, _, flag = line.rpartition(" ")
            if flag not in _FLAGS or not name:
                raise UsageError(f"{path}:{number}: must be a clip and 0, 1 or 2, got {line!r}")
            listed = f"{label}/{name.strip()}"
            yield InputRow(listed, asked.videos.locate(listed), listed, [label], split=_FLAGS[flag])
