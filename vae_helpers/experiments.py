"""Many trainings, one table: in this process, in others, or on a cluster."""

from vae_helpers.data import check_images
from vae_helpers.evaluation import active_units, evaluate
from vae_helpers.models import Decoder, Encoder, standard_normal
from vae_helpers.support import programs
from vae_helpers.support.progress import progress_bar
from vae_helpers.training import train

import contextlib
import hashlib
import inspect
import json
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, as_completed
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import tensorflow as tf

_SIZES = ["hidden_sizes", "latent_size"]
_OPTIONS = ["scale_fn", "batch_size", "beta", "learning_rate", "training_steps", "seed"]
_INPUTS = [*_SIZES, *_OPTIONS, "data_digest"]


def sweep(
    configurations: Iterable[Mapping[str, Any]],
    images: Any,
    test_images: Any,
    *,
    measure: Callable[..., Mapping[str, Any]] | None = None,
    executor: Executor | None = None,
    file: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Trains one model for each configuration and scores it on held-out images.

    The models are trained one after the other, those of one compiled program in a row, or
    side by side in the processes of an executor. The numbers are those of `train` alone,
    whatever runs it.

    An executor gets the images once for each of its processes: Dask's through its scheduler,
    which keeps them for workers that come later; any other through a temporary file, so its
    processes must be on this machine. `measure`, `scale_fn` and what `measure` returns must then
    be picklable.

    A file holds a row only for the same hyperparameters, images, versions of TensorFlow and
    of this package, and source of `measure`. What `measure` reads besides, e.g. a global
    variable, is not seen: use another file when it changes.

    Args:
        configurations: hyperparameters by the names of the post; hidden_sizes and
            latent_size are required, and there are defaults for batch_size, beta,
            learning_rate, training_steps, seed (see `train`) and scale_fn (see `Encoder`).
        images: to train on, [N, H, W, C].
        test_images: held out, [M, H, W, C].
        measure: computes further columns from (encoder, decoder, prior), where they
            were trained.
        executor: runs the trainings, e.g. a `ProcessPoolExecutor` whose context spawns,
            or `client.get_executor()` of a Dask `Client`. It is left open.
        file: each finished row is added to it as a line of JSON; rows that it has already
            are not computed again.
        progress: whether to show a progress bar.

    Returns:
        One row a configuration, in their order: its hyperparameters; the held-out means
        `rate`, `distortion` and `elbo`, in nats per image; `active_units`, a number of
        latents; what `measure` returns; and `error`, None or why there are no numbers,
        which is warned of, too. An interrupt returns the rows that are finished.

    Raises:
        ValueError: if a configuration has an unknown or a missing name, or there are none;
            with a `file`, if `scale_fn` is not a function of TensorFlow or TFP.
        OSError: with a `file`, if `measure` has no source.
        Exception: that of the first configuration, if every one has failed.
    """
    configurations = list(configurations)
    for names in map(list, configurations or [()]):
        if not {*_SIZES} <= {*names} <= {*_SIZES, *_OPTIONS}:
            raise ValueError(f"configurations must name {_SIZES}, may name {_OPTIONS}, got {names}")
    data = check_images(images), check_images(test_images, "test_images")

    rows, errors, futures = {}, {}, {}
    # After an interrupt the rows so far are the answer.
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        if file is not None:
            digest = _data_digest(data, measure)
            inputs = [{**configuration, "data_digest": digest} for configuration in configurations]
            lines = stack.enter_context(open(file, "a+", buffering=1, encoding="utf-8"))
            rows = _finished(lines, inputs)
        missing = [i for i in _by_program(configurations) if i not in rows]
        bar = stack.enter_context(progress_bar(len(missing), progress))
        run = partial(_run, measure=measure)
        if executor is None:
            calls = [(i, partial(run, data, **configurations[i])) for i in missing]
        else:
            data = _once_a_worker(executor, data, stack)
            futures = {executor.submit(run, data, **configurations[i]): i for i in missing}
            stack.callback(lambda: [future.cancel() for future in futures])
            # Dask trains again what a lost worker has finished, if its future is still held.
            calls = ((futures.pop(future), future.result) for future in as_completed(futures))
        for i, call in calls:
            try:
                rows[i] = call()
            except Exception as error:  # noqa: BLE001
                errors[i] = error
            if file is not None and i in rows:
                print(json.dumps(inputs[i] | rows[i], default=_plain), file=lines)
            bar.update()
    return _table(configurations, rows, errors)


def _by_program(configurations: list[Mapping]) -> list[int]:
    """Orders configurations so that those of one program follow the first of them."""
    names = ("hidden_sizes", "latent_size", "scale_fn", "batch_size")
    kinds = [str([c.get(name) for name in names]) for c in configurations]
    return sorted(range(len(kinds)), key=lambda i: kinds.index(kinds[i]))


def _once_a_worker(executor: Executor, data: tuple, stack: contextlib.ExitStack) -> Any:
    """Makes what `_run` takes in the place of images, small enough to go with each task."""
    if hasattr(executor, "_client"):  # Dask's: a task of its own, so a lost copy is made again
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            return executor._client.submit(tuple, data, pure=False)
    path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "images.npz")
    np.savez(path, *data)
    return path


_load = lru_cache(maxsize=1)(lambda path: [*np.load(path).values()])


def _run(data, hidden_sizes, latent_size, scale_fn=tf.square, *, measure, **options) -> dict:
    """Trains and scores one model."""
    images, test_images = _load(data) if isinstance(data, Path) else data
    encoder = Encoder(hidden_sizes, latent_size, scale_fn=scale_fn)
    decoder = Decoder(hidden_sizes, images.shape[1:])
    prior = standard_normal(latent_size)
    losses = train(encoder, decoder, prior, images, progress=False, **options)
    if losses.attrs["interrupted"]:
        raise KeyboardInterrupt
    row = evaluate(encoder, decoder, prior, test_images).mean().to_dict()
    row["active_units"] = int(active_units(encoder, test_images).sum())
    more = measure(encoder, decoder, prior) if measure else {}
    if not isinstance(more, Mapping) or {*more} & {*_INPUTS, *row, "error"}:
        raise ValueError(f"measure must return a dictionary of further columns, got {more!r}")
    return {**row, **more}


def _table(configurations: list[Mapping], rows: dict, errors: dict) -> pd.DataFrame:
    """Puts rows in the order of their configurations, and says which of them failed."""
    if len(errors) == len(configurations):
        raise errors[0]
    if errors:
        i, failed = min(errors), f"{len(errors)} of {len(configurations)} configurations failed"
        failed += f", see the column error; the first is {configurations[i]}: {errors[i]}"
        warnings.warn(failed, stacklevel=3)
    done = sorted({*rows, *errors})
    table = pd.DataFrame([{**configurations[i], **rows.get(i, {})} for i in done])
    texts = {i: f"{type(error).__name__}: {error}" for i, error in errors.items()}
    table["error"] = pd.Series([texts.get(i) for i in done], table.index, object)
    return table


# In a file each finished row is a line, with what it was computed from.

# Read at once: what is edited later does not run before it is imported again.
_SOURCES = [path.read_text("utf-8") for path in sorted(Path(__file__).parent.rglob("*.py"))]


def _data_digest(data: tuple[np.ndarray, ...], measure: Callable | None) -> str:
    """Computes a digest of all that rows depend on besides their configurations."""
    source = inspect.getsource(measure) if measure else ""
    return hashlib.sha256(pickle.dumps([tf.__version__, _SOURCES, source, data])).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """Names a function of TensorFlow or TFP, and makes NumPy's numbers Python's, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    if programs.is_tensorflows(value):
        return f"{value.__module__}.{value.__qualname__}"
    own = "a function of TensorFlow or TFP itself, for what another reads may change"
    raise ValueError(f"in a file scale_fn must be {own}, all else a number or text, got {value!r}")


def _key(row: dict[str, Any]) -> str:
    return json.dumps({name: row[name] for name in _INPUTS if name in row}, default=_plain)


def _finished(lines: TextIO, inputs: list[dict]) -> dict[int, dict[str, Any]]:
    """Reads the results of those rows that a file has."""
    lines.seek(0)
    known = {}
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):  # of a process killed while it wrote
            row = json.loads(line)
            known[_key(row)] = {name: row[name] for name in row if name not in _INPUTS}
    return {i: known[_key(row)] for i, row in enumerate(inputs) if _key(row) in known}
