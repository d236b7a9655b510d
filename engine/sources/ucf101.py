"""UCF101: class folders of `v_<Class>_gNN_cNN.avi`, and the three official splits.

    ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1        trainlist01.txt: the number is the class id of classInd.txt
    ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi          testlist01.txt

Lists that give the file name alone (ViFi-CLIP's) take the class out of the name.
"""

import re
from collections.abc import Iterator

from ...shards.errors import UsageError
from .asked import Asked, split_of
from .records import read_lines
from .rows import InputRow

_NAME = re.compile(r"v_(\w+?)_g\d+_c\d+", re.ASCII)


def ucf101_rows(asked: Asked) -> Iterator[InputRow]:
    """A row per line of the fold's train and test list (or of the one list given); its id is the path as listed."""
    for path in asked.lists(f"trainlist{asked.fold:02d}.txt", f"testlist{asked.fold:02d}.txt"):
        for number, line in read_lines(path):
            name = line.split()[0]
            folder, _, file = name.rpartition("/")
            found = _NAME.match(file)
            if found is None:
                raise UsageError(f"{path}:{number}: must be a video called v_<Class>_gNN_cNN, got {name!r}")
            yield InputRow(name, asked.videos.locate(name), name, [folder or found[1]], split=split_of(path))
