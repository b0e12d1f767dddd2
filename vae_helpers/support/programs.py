"""Compiled programs: many training steps a call."""

import inspect
import sys
from collections.abc import Callable, Sequence

import tensorflow as tf

STEPS_PER_CALL = 64


def is_tensorflows(function: Callable) -> bool:
    """Tells whether a function or class is TensorFlow's or TFP's own, found under its name there.

    What any other one reads, a global or a closure, may change.
    """
    if not (inspect.isfunction(function) or inspect.isclass(function)):
        return False
    if function.__module__.partition(".")[0] not in ("tensorflow", "tensorflow_probability"):
        return False
    return getattr(sys.modules.get(function.__module__), function.__qualname__, None) is function


def compile_by_xla(function: Callable, *arguments: tf.TensorSpec) -> Callable:
    """Compiles a function of tensors to one XLA program."""
    compiled = tf.function(function, jit_compile=True, autograph=False)
    program = compiled.get_concrete_function(*arguments)  # else TensorFlow warns of retracing
    if b"CheckNumericsV2" in program.graph.as_graph_def().SerializeToString():
        raise RuntimeError(
            "XLA cannot compile tf.debugging.enable_check_numerics: disable it first"
        )
    return program


class CompiledSteps:
    """A training step, compiled by XLA with a loop around it.

    Args:
        step: called as step(x, seed) or step(x, y, seed), with a batch of each array and a seed
            int32 [2]; returns a dictionary of scalars. Whatever it creates at its first use,
            weights or an optimizer's moments, is created here.
        batches: what `run` takes, uint8 or float32 [STEPS_PER_CALL, B, H, W, C], and labels
            [STEPS_PER_CALL, B].
    """

    def __init__(self, step: Callable, batches: Sequence[tf.TensorSpec]):
        self.names: list[str] = []
        self._step = step
        one = [tf.TensorSpec(spec.shape[1:], spec.dtype) for spec in batches]
        # Traced by itself, and not run: what is created inside a loop would be lost with it.
        tf.function(self._row, autograph=False).get_concrete_function(
            *one, tf.TensorSpec([2], tf.int32)
        )
        integers = [tf.TensorSpec([], tf.int32)] * 3
        self.run = compile_by_xla(self._loop, *integers, *batches)

    def _row(self, x: tf.Tensor, *rest: tf.Tensor) -> tf.Tensor:
        row = self._step(tf.image.convert_image_dtype(x, tf.float32), *rest)
        if not isinstance(row, dict) or not row or any(tf.shape(v).shape[0] for v in row.values()):
            raise ValueError(f"step must return a dictionary of scalars, got {row!r}")
        self.names = list(row)
        return tf.stack([tf.cast(value, tf.float32) for value in row.values()])

    def _loop(self, first, count, seed, *batches) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Takes `count` steps, fewer if a value is not finite: that step is the last.

        Returns how many, whether the last values are finite, and those of each [S, columns].
        """

        def body(i, finite, rows):
            row = self._row(*(batch[i] for batch in batches), tf.stack([seed, first + i]))
            return i + 1, tf.reduce_all(tf.math.is_finite(row)), rows.write(i, row)

        rows = tf.TensorArray(tf.float32, STEPS_PER_CALL, element_shape=[len(self.names)])
        done, finite, rows = tf.while_loop(
            lambda i, finite, _: finite & (i < count), body, (0, True, rows)
        )
        return done, finite, rows.stack()
