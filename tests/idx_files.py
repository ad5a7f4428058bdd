"""Fashion-MNIST files with few images, for tests."""

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_fashion_mnist(folder: Path, n_train: int, n_test: int, *, gzipped: bool = False) -> None:
    """Write the four IDX files: labels are 0, 1, ..., 9, 0, ..., and each class has its own bright rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (part, n) in enumerate((("train", n_train), ("t10k", n_test))):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = np.random.default_rng(seed).integers(0, 128, (n, 28, 28), dtype=np.uint8)
        for row in (0, 1):
            images[np.arange(n), 2 * labels + 4 + row] += 100
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            _write(folder / f"{part}-{kind}-ubyte", array, gzipped)


def _write(path: Path, array: NDArray[np.uint8], gzipped: bool) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = header + array.tobytes()
    if gzipped:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)
