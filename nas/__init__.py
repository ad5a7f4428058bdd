"""Training, evaluation, search, export and benchmark of elastic supernets.

`import nas` is fast, because torch is imported only when one of the names below is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from nas import importing as importing
    from nas.api.devices import benchmark as benchmark
    from nas.api.devices import profile as profile
    from nas.api.run import Run as Run
    from nas.api.train import train as train
    from nas.search.options import SearchOptions as SearchOptions
    from nas.torch_backend.supernet import Supernet as Supernet
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "benchmark": "nas.api.devices",
            "profile": "nas.api.devices",
            "Run": "nas.api.run",
            "train": "nas.api.train",
            "importing": "nas.importing",
            "SearchOptions": "nas.search.options",
            "Supernet": "nas.torch_backend.supernet",
        },
    )
