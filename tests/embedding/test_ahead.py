"""Batches prepared ahead of use: in order, at most two, errors in their turn, and no thread is left in any case."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
import tiny
import torch

from modelspace.attribution.engine import frozen
from modelspace.embedding.ahead import ahead
from modelspace.embedding.embed import embed
from modelspace.embedding.limits import time_limit
from modelspace.encoder.layers import find_encoder_output
from modelspace.errors import EmbeddingError
from modelspace.types import SpaceSpec


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "modelspace images"]


def test_items_come_in_order_and_are_read_at_most_two_ahead() -> None:
    read: list[int] = []
    threads = set()

    def items() -> Iterator[int]:
        for k in range(6):
            read.append(k)
            yield k

    def prepare(k: int) -> int:
        threads.add(threading.current_thread().name)
        return 10 * k

    taken = []
    for value in ahead(items(), prepare):
        taken.append(value)
        time.sleep(0.01)
        assert len(read) <= len(taken) + 2
    assert taken == [0, 10, 20, 30, 40, 50]
    assert threads == {"modelspace images"}
    assert list(ahead([], prepare)) == []


def test_the_next_item_is_prepared_while_the_loop_is_at_the_last() -> None:
    prepared = threading.Event()
    values = ahead([0, 1], lambda k: prepared.set() if k else None)
    with closing(values):
        next(values)
        assert prepared.wait(10)


@pytest.mark.parametrize("error", [ValueError("broken"), MemoryError(), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["items", "prepare"])
def test_an_error_is_raised_when_its_turn_comes(error: BaseException, place: str) -> None:
    def items() -> Iterator[int]:
        yield from (0, 1)
        if place == "items":
            raise error
        yield 2

    def prepare(k: int) -> int:
        if k == 2:
            raise error
        return k

    values = ahead(items(), prepare)
    assert [next(values), next(values)] == [0, 1]
    with pytest.raises(type(error)) as raised:
        next(values)
    assert raised.value is error


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_loop_that_ends_early_ends_the_thread(error: type[BaseException]) -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    def loop() -> None:
        with closing(ahead(started, str)) as values:
            for _ in values:
                raise error

    started = items()
    with pytest.raises(error):
        loop()
    started.close()
    assert closed == [True]


def test_a_time_limit_ends_the_wait_for_images_in_every_thread() -> None:
    messages: list[str] = []

    def items() -> Iterator[int]:
        time.sleep(0.5)
        yield 1

    def run() -> None:
        try:
            with time_limit(0.1, "the pass"), closing(ahead(items(), str)) as values:
                list(values)
        except EmbeddingError as error:
            messages.append(error.message)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    run()
    assert messages == ["the pass did not end within 0.1 seconds; nothing was stored"] * 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_pass_that_is_interrupted_reads_no_further(error: type[BaseException]) -> None:
    read: list[int] = []

    def images() -> Iterator[np.ndarray]:
        for k in range(50):
            read.append(k)
            yield np.full((2, 16, 16, 3), k, dtype=np.uint8)

    def interrupted(done: int, total: int) -> None:
        raise error

    spec = SpaceSpec("dds", "p", "dds", 100, 0, 8)
    with frozen(net := tiny.net()):
        tap = find_encoder_output(net, torch.rand(2, 3, 16, 16), "output")
        with pytest.raises(error):
            embed(tap, tiny.PREPROCESSING, images(), [spec], device=torch.device("cpu"), progress=interrupted)
    assert len(read) <= 3
