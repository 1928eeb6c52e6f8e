"""A data set whose images and masks are files; every reader of files gives one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from model.data.pictures import Mask, boxes_mask, decode, decode_mask, shape_of
from model.data.sample import Box, Pixels, Sample
from model.data.store import DataError, Store, version_of
from model.values import Region


@dataclass(frozen=True, slots=True)
class Drawn:
    """Regions of one sample that are not one file: their union says where."""

    regions: tuple[Region, ...]
    boxes: tuple[Box, ...] = ()
    masks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class FileSet:
    """Samples over the files of a store; see :class:`model.data.sample.DataSet`.

    Parameters
    ----------
    labels : names of the files that *rows* were read from; part of the version.
    drawn : by the mask key of the samples that they belong to.
    shapes : (rows, columns) that images must have for the boxes to fit, where the labels say it.
    """

    name: str
    store: Store
    labels: tuple[str, ...]
    rows: tuple[Sample, ...]
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    drawn: Mapping[str, Drawn] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """SHA-256 over labels, images and masks; reads each of them once, unless their digests are pinned."""
        files = {row.image for row in self.rows}.union(self.labels, *(drawn.masks for drawn in self.drawn.values()))
        files |= {row.mask for row in self.rows if row.mask and row.mask not in self.drawn}
        return version_of((name, self.store.sha256(name) if self.store.has(name) else "missing") for name in files)

    def samples(self) -> tuple[Sample, ...]:
        """In the order of the labels."""
        return self.rows

    def pixels(self, image: str) -> Pixels:
        """As :class:`model.data.sample.DataSet` says."""
        pixels = decode(self.store.read(image))
        self._check(image, pixels.shape)
        return pixels

    def mask(self, sample: Sample) -> Mask:
        """From the sample's mask or else from its boxes, *Shape:* (rows, columns) of the stored image.

        Raises
        ------
        OSError
            If a file cannot be read.
        ValueError
            If one is not an image, or the mask is not as large as the image.
        """
        shape = shape_of(self.store.read(sample.image))
        self._check(sample.image, shape)
        if sample.mask is None:
            return boxes_mask(sample.boxes, shape)
        drawn = self.drawn.get(sample.mask)
        if drawn is None:
            return self._mask_file(sample.mask, shape)
        mask = boxes_mask(drawn.boxes, shape)
        for region in drawn.regions:
            mask |= region.mask(*shape)
        for name in drawn.masks:
            mask |= self._mask_file(name, shape)
        return mask

    def _mask_file(self, name: str, shape: tuple[int, int]) -> Mask:
        mask = decode_mask(self.store.read(name))
        if mask.shape != shape:
            raise DataError(f"the mask {name} is {mask.shape}, its image {shape} (rows, columns): they must agree")
        return mask

    def _check(self, image: str, shape: tuple[int, ...]) -> None:
        expected = self.shapes.get(image, shape)
        if shape != expected:
            raise DataError(
                f"an image is {shape} and the labels say {expected} (rows, columns), so boxes would miss their places; "
                "use the images as published, and `sightline prepare` to make them smaller"
            )
