"""Many trainings, one table: in this process, in others, or on a cluster."""

from vae_helpers.data import check_images
from vae_helpers.evaluation import active_units, evaluate
from vae_helpers.models import Decoder, Encoder, standard_normal, tfd
from vae_helpers.support import checks
from vae_helpers.support.progress import deferred_interrupts, progress_bar
from vae_helpers.training import train

import contextlib
import csv
import functools
import hashlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sonnet as snt
import tensorflow as tf

Measure = Callable[[snt.Module, snt.Module, tfd.Distribution], Mapping[str, Any]]

_SIZES = {"hidden_sizes", "latent_size"}
_LINK = {"scale_fn"}
_TRAINING = {"batch_size", "beta", "learning_rate", "training_steps", "seed"}
_COLUMNS = sorted(_SIZES | _LINK | _TRAINING)
_COMPILED = sorted(_SIZES | _LINK | {"batch_size"})  # what programs differ in


def sweep(
    configurations: Iterable[Mapping[str, Any]],
    images: Any,
    test_images: Any,
    *,
    measure: Measure | None = None,
    executor: Executor | None = None,
    file: str | os.PathLike | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Trains one model for each configuration and scores it on held-out images.

    Without an executor two threads work side by side, for one training cannot keep two
    cores busy. The numbers are those of `train` alone, whatever runs it. Configurations
    of one architecture and batch size share a compiled program in each process (see
    `training.train`), and are trained one after the other.

    An executor of processes gets the images once a worker: Dask's through its scheduler,
    any other through a temporary file, so its processes must be on this machine. `measure`
    and `scale_fn` then have to be picklable, and so has what `measure` returns.

    Args:
        configurations: hyperparameters by the names of the post; hidden_sizes
            and latent_size are required, and there are defaults for batch_size, beta,
            learning_rate, training_steps, seed (see `train`) and scale_fn (see `Encoder`).
        images: to train on, [N, H, W, C].
        test_images: held out, [M, H, W, C].
        measure: computes further columns from (encoder, decoder, prior), where they
            were trained.
        executor: runs the trainings, e.g. a `ProcessPoolExecutor` whose context spawns,
            or `client.get_executor()` of a Dask `Client`. It is left open.
        file: a CSV file that each finished row is added to. Rows that it has already, of
            the same hyperparameters, images and version of TensorFlow, are not computed again;
            so another `measure` needs another file.
        progress: whether to show a progress bar.

    Returns:
        One row a configuration, in their order: its hyperparameters; the held-out means
        `rate`, `distortion` and `elbo`, in nats per image; `active_units`, a number of
        latents; what `measure` returns; and `error`, None or why there are no numbers,
        which is warned of, too. An interrupt waits for the models in training and returns
        the rows that are finished.

    Raises:
        ValueError: if a configuration has an unknown or a missing name, or there
            are none; if `file` cannot hold the rows.
        OSError: if `file` cannot be written; it keeps the rows before.
        Exception: that of the first configuration, if every one has failed, e.g. a
            RuntimeError of an executor that forks its processes or has lost all workers.
    """
    if isinstance(configurations, Iterable):
        configurations = list(configurations)
    if not isinstance(configurations, list) or not all(
        isinstance(configuration, Mapping) for configuration in configurations
    ):
        raise ValueError(f"configurations must be a list of dictionaries, got {configurations}")
    if not configurations:
        raise ValueError("configurations must hold at least one, got none")
    configurations = [dict(configuration) for configuration in configurations]
    for configuration in configurations:
        names = set(configuration)
        if not _SIZES <= names <= _SIZES | _LINK | _TRAINING:
            raise ValueError(
                f"configurations must name {sorted(_SIZES)} and may name "
                f"{sorted(_LINK | _TRAINING)}, got {sorted(names, key=str)}"
            )
    images, test_images = check_images(images), check_images(test_images, "test_images")
    if test_images.shape[1:] != images.shape[1:]:
        raise ValueError(
            f"test_images must have the shape of images, {list(images.shape[1:])}, "
            f"got {list(test_images.shape[1:])}"
        )
    if measure is not None:
        checks.function("measure", measure)
    if not isinstance(executor, Executor | None):
        raise ValueError(
            "executor must be one of concurrent.futures, or client.get_executor() of a Dask client, "
            f"got {executor!r}"
        )
    if not isinstance(file, str | os.PathLike | None):
        raise ValueError(f"file must be a path, got {file!r}")
    keys = [_key(configuration) for configuration in configurations] if file is not None else []
    finished = _File(file, images, test_images) if file is not None else None
    rows = {i: finished.rows[key] for i, key in enumerate(keys) if key in finished.rows}

    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(progress_bar(len(configurations), progress))
        if rows:
            bar.update(len(rows))
        if executor is None:
            executor = stack.enter_context(ThreadPoolExecutor(min(2, os.cpu_count() or 1)))
            data = images, test_images
        else:
            data = stack.enter_context(_once_a_worker(executor, images, test_images))
        futures: dict[Future, int] = {}

        def collect(future: Future) -> None:
            # Dask trains again what a lost worker has finished, if anybody still holds its future.
            i = futures.pop(future)
            if future.cancelled():
                row = RuntimeError("the executor gave it up, as Dask does if all workers are lost")
            else:
                row = future.exception() or future.result()
            if isinstance(row, KeyboardInterrupt):
                return
            rows[i] = row
            if finished is not None and isinstance(row, dict):
                finished.add(keys[i], row)

        try:
            for i in _by_program(configurations):
                if i not in rows:
                    futures[executor.submit(_run, configurations[i], *data, measure)] = i
            for future in as_completed(futures):
                with deferred_interrupts() as interrupts:  # or the row would miss in the file
                    collect(future)
                if interrupts:
                    raise KeyboardInterrupt
                bar.update()
        except KeyboardInterrupt:  # the rows so far are the answer
            with contextlib.suppress(KeyboardInterrupt):  # a second one: those in training are lost
                for future in as_completed([f for f in futures if not f.cancel()]):
                    with deferred_interrupts() as interrupts:
                        collect(future)
                    if interrupts:
                        break
        finally:
            for future in futures:
                future.cancel()
    return _table(configurations, rows)


def _by_program(configurations: list[dict]) -> list[int]:
    """Orders configurations so that those of one program follow the first of them."""
    programs = [str([c.get(name) for name in _COMPILED]) for c in configurations]
    first = {program: i for i, program in reversed([*enumerate(programs)])}
    return sorted(range(len(configurations)), key=lambda i: first[programs[i]])


@contextlib.contextmanager
def _once_a_worker(executor: Executor, *arrays: np.ndarray) -> Iterator[tuple]:
    """Makes what `_run` takes in the place of arrays, small enough to go with each task."""
    if client := getattr(executor, "_client", None):  # Dask's: its own futures stand for the data
        yield tuple(client.scatter(list(arrays), broadcast=True))
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.npy" for i in range(len(arrays))]
        for path, array in zip(paths, arrays, strict=True):
            np.save(path, array)
        yield tuple(paths)


@functools.lru_cache(maxsize=2)
def _loaded(path: Path) -> np.ndarray:
    return np.load(path)


def _run(configuration, images, test_images, measure) -> dict[str, Any]:
    """Trains and scores one model."""
    if isinstance(images, Path):
        images, test_images = _loaded(images), _loaded(test_images)
    latent_size = configuration["latent_size"]
    links = {name: configuration[name] for name in _LINK & set(configuration)}
    encoder = Encoder(configuration["hidden_sizes"], latent_size, **links)
    decoder = Decoder(configuration["hidden_sizes"], images.shape[1:])
    prior = standard_normal(latent_size)
    options = {name: configuration[name] for name in _TRAINING & set(configuration)}
    losses = train(encoder, decoder, prior, images, progress=False, **options)
    if losses.attrs["interrupted"]:  # a terminal interrupts all its processes at once
        raise KeyboardInterrupt
    row = evaluate(encoder, decoder, prior, test_images).mean().to_dict()
    row["active_units"] = int(active_units(encoder, test_images).sum())
    more = measure(encoder, decoder, prior) if measure else {}
    if not isinstance(more, Mapping) or not all(isinstance(name, str) for name in more):
        raise ValueError(f"measure must return a dictionary of named columns, got {more!r}")
    more = dict(more)
    if taken := sorted({*more} & {*row, *_COLUMNS, "made_of", "error"}):
        raise ValueError(f"measure must name other columns than {taken}")
    return row | more


def _table(configurations: list[dict], rows: dict[int, dict | BaseException]) -> pd.DataFrame:
    """Puts rows in the order of their configurations, and says which of them failed."""
    errors = {i: row for i, row in sorted(rows.items()) if isinstance(row, BaseException)}
    if errors:
        first, error = next(iter(errors.items()))
        if len(errors) == len(configurations):
            raise error
        warnings.warn(
            f"{len(errors)} of {len(configurations)} configurations failed, see the column error; "
            f"the first is {configurations[first]}: {error}",
            stacklevel=3,
        )
    table = pd.DataFrame(
        [configurations[i] | ({} if i in errors else row) for i, row in sorted(rows.items())]
    )
    texts = [
        f"{type(errors[i]).__name__}: {errors[i]}" if i in errors else None for i in sorted(rows)
    ]
    table["error"] = pd.Series(texts, index=table.index, dtype=object)  # which keeps None
    return table


def _key(configuration: Mapping[str, Any]) -> tuple[str, ...]:
    """Writes what tells a configuration from others, each value as JSON."""
    values = dict(configuration)
    if "scale_fn" in values:
        link = values["scale_fn"]
        values["scale_fn"] = (
            f"{getattr(link, '__module__', '<')}.{getattr(link, '__qualname__', '<')}"
        )
        if "<" in values["scale_fn"]:
            raise ValueError(
                f"scale_fn must be a function of a module to be named in a file, got {link!r}"
            )
    return tuple(_as_json(name, values[name]) if name in values else "" for name in _COLUMNS)


def _as_json(name: str, value: Any) -> str:
    try:
        return json.dumps(value, default=lambda number: number.item())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"{name} must be a number or a text to go into a file, got {type(value)}")


class _File:
    """The finished rows of sweeps in a CSV file, each value as JSON."""

    def __init__(self, path: str | os.PathLike, images: np.ndarray, test_images: np.ndarray):
        self.path = Path(path)
        self.rows: dict[tuple[str, ...], dict[str, Any]] = {}
        self.columns: list[str] = []
        digest = hashlib.sha256(tf.__version__.encode())
        for array in (images, test_images):
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array))
        self.made_of = digest.hexdigest()[:16]
        with self._writing():  # while nothing is lost yet
            tempfile.TemporaryFile(dir=self.path.parent).close()
        if not os.path.lexists(self.path):
            return
        if self.path.exists() and not (self.path.is_file() or self.path.is_dir()):
            raise ValueError(f"file must be a regular file, got {self.path}")  # it may have no end
        with self._writing():
            self.path.open("ab").close()
        content = self.path.read_bytes()
        head = ",".join([*_COLUMNS, "made_of", ""]).encode()
        whole = content.rfind(b"\n") + 1
        size = len(_COLUMNS) + 1
        try:
            if content[: len(head)] != head[: len(content)]:
                raise ValueError(f"it begins with {content[:60]!r}")
            text = content[:whole].decode()
            self.columns, *known = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
            for values in known:
                if values[size - 1] == self.made_of:
                    results = zip(self.columns[size:], map(json.loads, values[size:]), strict=True)
                    self.rows[tuple(values[: size - 1])] = dict(results)
        except (ValueError, IndexError, csv.Error) as error:
            raise ValueError(
                f"file must be new or of another sweep, got {self.path}: {error}"
            ) from error
        if whole < len(content):  # the last row was not written to its end
            with self._writing():
                os.truncate(self.path, whole)

    def add(self, key: tuple[str, ...], row: dict[str, Any]) -> None:
        """Appends a row."""
        values = [*key, self.made_of, *(_as_json(*item) for item in row.items())]
        columns = [*_COLUMNS, "made_of", *row]
        if self.columns not in ([], columns):
            raise ValueError(f"file must have the columns {columns}, got {self.columns}")
        with self._writing(), self.path.open("a", encoding="utf-8", newline="") as lines:
            csv.writer(lines, lineterminator="\n").writerows(
                [values] if self.columns else [columns, values]
            )
        self.columns = columns

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"file {self.path} cannot be written ({error.strerror}). The rows before are in it: "
                "make room for it, or let it be written to, and run the sweep again"
            ) from error
