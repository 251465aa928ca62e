"""Work done ahead of whoever waits for it, in threads that end when nobody does.

In: an iterator, or a function and what to call it with. Out: the same results in the same order.
Reading files, unpacking and decoding release the interpreter lock, so they go on while the consumer
computes. An error is raised where its result would have come. Closing the generator, or dropping
it, ends its threads before it returns. The price: at most the work under way is thrown away.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """`items`, each computed while the one before is in use; never two ahead."""
    wanted, stopped = threading.Semaphore(1), threading.Event()
    ready: queue.SimpleQueue[tuple[bool, T | BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            while True:
                wanted.acquire()
                if stopped.is_set():
                    return
                try:
                    ready.put((True, next(items)))
                except StopIteration:
                    ready.put((False, None))
                    return
        except BaseException as error:
            ready.put((False, error))
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name="harness-ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, item = ready.get()
            if not more:
                if isinstance(item, BaseException):
                    raise item
                return
            wanted.release()
            yield item  # type: ignore[misc]
            del item  # or it would stay in memory beside the next two
    finally:
        stopped.set()
        wanted.release()
        thread.join()


def mapped(
    function: Callable[[T], U], items: Iterable[Iterable[T]], threads: int, depth: int
) -> Generator[list[U], None, None]:
    """`[function(x) for x in item]` for each item, on `threads` threads, up to `depth` items ahead.

    Raises:
        BaseException: what `function` raised for the first of the values it raised for.
    """
    waiting: deque[list[Future[U]]] = deque()
    with ThreadPoolExecutor(threads, "harness-ahead") as pool:
        try:
            for item in items:
                waiting.append([pool.submit(function, each) for each in item])
                if len(waiting) > depth:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
