"""Loaded samples → a batch."""

from collections.abc import Sequence
from typing import Any

import torch

from .batch import Batch
from .catalog import Catalog
from .config import LoaderConfig
from .features import nearest
from .heads import Decoded, Heads
from .quarantine import Quarantine
from .samples import Loaded
from .texts import Texts


class Collator:
    """Puts batches together; in one thread.

    Args:
        config: of the loader.
        catalog: numbers the labels.
        heads: make the clips; None where no video is read.
        quarantine: takes in what only shows itself to be damaged with its whole batch.
    """

    def __init__(self, config: LoaderConfig, catalog: Catalog, heads: Heads | None, quarantine: Quarantine) -> None:
        self._config, self._catalog, self._heads = config, catalog, heads
        self._quarantine = quarantine
        self._texts = None if config.bank is None else Texts(config.bank, config.descriptions, config.seed)

    def batch(self, loaded: Sequence[Loaded], epoch: int) -> Batch:
        """One rank's share of a step.

        Args:
            loaded: its samples.
            epoch: draws their texts.
        """
        decoded = self._decoded(loaded)
        for i, error in decoded.errors.items():
            self._quarantine.add(loaded[i].sample, error)
        samples = [each.sample for each in loaded]
        keys = [sample.key for sample in samples]
        labels = [self._catalog.labels(sample) for sample in samples]
        actions = [_or(sample.row["action_id"], -1) for sample in samples]
        texts = None
        if self._texts is not None:
            texts = [self._texts.draw(action, epoch, key) for action, key in zip(actions, keys, strict=True)]
        features, masks = None, None
        if self._catalog.features is not None:
            donors = nearest(decoded.valid)
            features, masks = self._catalog.features.batch([each.features for each in loaded], donors)
        return Batch(
            clips_BVTCHW=decoded.clips_BVTCHW,
            labels_B=torch.tensor([its[0] if its else -1 for its in labels]),
            targets_BC=self._targets(labels) if self._config.multi_label else None,
            features=features,
            feature_masks=masks,
            texts=texts,
            action_ids_B=torch.tensor(actions),
            keys=keys,
            captions=[_or(sample.row["caption"], "") for sample in samples],
            valid_B=torch.tensor(decoded.valid),
        )

    def _decoded(self, loaded: Sequence[Loaded]) -> Decoded:
        config = self._config
        if self._heads is not None:
            return self._heads.batch([each.video for each in loaded], [each.views for each in loaded])
        shape = len(loaded), config.clips * config.crops, 0, 3, config.size, config.size
        none = torch.zeros(shape, dtype=getattr(torch, config.dtype))
        return Decoded(none, [each.features is not None for each in loaded], {})

    def _targets(self, labels: Sequence[Sequence[int]]) -> torch.Tensor:
        targets_BC = torch.zeros(len(labels), len(self._catalog.classes))
        for sample, its in enumerate(labels):
            targets_BC[sample, list(its)] = 1
        return targets_BC


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
