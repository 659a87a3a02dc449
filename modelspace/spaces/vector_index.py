"""What searches the vectors of a space: the FAISS files next to the registry, or a Milvus store that it is copied to.

Which of them is chosen by an address: "local" for the files (`modelspace.spaces.index`), or one of
`modelspace.spaces.milvus_client`. It comes from the call, else from the environment variable MODELSPACE_INDEX. It is
never read from the registry's folder: a registry from somebody else must not decide where a query connects to.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

#: The environment variable with the address of the index.
VARIABLE = "MODELSPACE_INDEX"

#: The address of the files next to the registry.
LOCAL = "local"

_address: ContextVar[str | None] = ContextVar("address", default=None)


class VectorIndex(Protocol):
    """The vectors of one space, ready to be searched.

    Attributes:
        note: a remark for the user, or "".
    """

    note: str

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    @property
    def exact(self) -> bool:
        """Whether scores are inner products up to float32 rounding; if not, they only propose candidates."""

    @property
    def count(self) -> int:
        """Number of models."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """(n,) model ids by position."""

    def vector(self, model_id: int) -> NDArray[np.float32]:
        """The vector of a model, (dimension,) float32.

        Raises:
            NotFoundError: the model is not in the index.
        """

    def vectors(self, model_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of (n,) models, (n, dimension) float32.

        Raises:
            NotFoundError: a model is not in the index.
        """

    def search(
        self, vectors: np.ndarray, k: int, kept: Collection[int] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k models with the largest inner products for each query, largest first.

        Args:
            vectors: (q, d) finite numbers.
            k: number of models; at least 1.
            kept: ids of the models to search among; None for all.

        Returns:
            scores (q, k') float32 and model ids (q, k') int64, k' = min(k, number of models to search among).
        """


@contextmanager
def using(address: str | None) -> Iterator[None]:
    """Search in the index of this address inside the block; None leaves the choice as it is."""
    if address is None:
        yield
        return
    token = _address.set(address)
    try:
        yield
    finally:
        _address.reset(token)


def chosen_address() -> str:
    """The address of the index to search in.

    >>> with using("milvus:models.db"):
    ...     chosen_address()
    'milvus:models.db'
    """
    return _address.get() or os.environ.get(VARIABLE) or LOCAL


def is_local() -> bool:
    """Whether the index to search in is that of the files next to the registry."""
    return chosen_address() == LOCAL
