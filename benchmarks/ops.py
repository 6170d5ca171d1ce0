"""The operators' implementations against each other, and against torch.

  python benchmarks/ops.py [--against torch] [--only NAME ...] [--minutes 8]

Every implementation of an operator computes the same; a row tells the medians
of interleaved calls, forward alone and forward with backward, the memory that
the latter needs, and its share of what the device can do: of the measured
bandwidth of a copy (counting inputs and outputs once) and of the measured rate
of a matrix product. `ratio_*` say how many times faster than the plain form,
the first of each case. On a GPU the arrays are larger, the cases of an operator
are compiled at once before any is timed, ten calls are timed together, and
PyTorch's side is compiled.
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent import futures
import functools
import itertools
import math
import os
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import measure
import numpy as np
import torch_ops

from fcnjax import losses
from fcnjax.ops import (
  averaging,
  convolution,
  depthwise,
  interleaved,
  max_pooling,
  pooling,
  resizing,
  transposed,
  upsampled,
)
from fcnjax.training import host_memory

GPU = True  # Marks the convolutions that are measured there, too.


class Case(NamedTuple):
  """An operator on arrays of some size.

  Attributes:
    op: its name.
    case: the size in words.
    arrays: what it is differentiated by.
    forms: functions of the arrays by name; the first is the plain one.
    torch: see torch_ops, or None.
    operations: floating-point operations, forward and backward together.
    constants: further arguments, behind the arrays.
    forward_only: whether there is nothing to differentiate.
  """

  op: str
  case: str
  arrays: tuple[Any, ...]
  forms: dict[str, Callable[..., Any]]
  torch: Callable[..., Any] | None = None
  operations: float = 0.0
  constants: tuple[Any, ...] = ()
  forward_only: bool = False


def main() -> None:
  """Measures what is asked for and saves row by row."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--against", choices=("torch",))
  parser.add_argument(
    "--only",
    nargs="*",
    default=(),
    help="operators or cases; rows of others stay",
  )
  parser.add_argument("--minutes", type=float, default=8.0)
  parser.add_argument("--rounds", type=int, default=9)
  arguments = parser.parse_args()
  host_memory.keep_freed()  # As the commands do, for torch too.
  began = time.monotonic()
  dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
  results = measure.Results(
    "ops",
    keep=lambda row: (
      arguments.only and not {row["op"], row["case"]} & {*arguments.only}
    ),
    precision=dtype,
    copy_bandwidth=measure.copy_bandwidth(),
    matrix_rate=measure.matrix_rate(dtype),
  )
  todo = (
    c
    for c in cases(dtype)
    if not arguments.only or {c.op, c.case} & {*arguments.only}
  )
  on_cpu = jax.default_backend() == "cpu"
  # A CPU would be busy with the next case's compilation while it is timed.
  groups = ([case] for case in todo)
  if not on_cpu:
    groups = (list(same) for _, same in itertools.groupby(todo, lambda c: c.op))
  with futures.ThreadPoolExecutor(1 if on_cpu else os.cpu_count()) as pool:
    for group in groups:
      ready = [Ready(case, arguments, pool) for case in group]
      for one in ready:
        one.wait()
      while ready:
        if time.monotonic() - began > 60 * arguments.minutes:
          print("no time is left for the rest; use --minutes")
          return
        for row in rows(ready.pop(0), arguments):
          results.add(row)
          print(line(row), flush=True)


class Ready:
  """A case whose programs are compiled, once `wait` has returned.

  Attributes:
    case: the case.
    forward: calls by the name of the implementation.
    both: forward and backward alike.
    memory: bytes that the latter need.
    pulls: of each array's gradient by itself, by key of a row, and by name: of
      the last form, on a GPU of all, and the rival.
  """

  def __init__(self, case, arguments, pool):
    self.case, self.against = case, arguments.against and case.torch
    self.forward, self.both, self.memory = {}, {}, {}
    self.pulls: dict[str, dict[str, Any]] = {}
    call = (*case.arrays, *case.constants)
    cotangent = _like(jax.eval_shape(next(iter(case.forms.values())), *call))
    self._waiting = []

    def submit(into, name, function, *operands, memory=False):
      lowered = jax.jit(function).lower(*operands)

      def compile_it():
        compiled = lowered.compile()
        into[name] = functools.partial(compiled, *operands)
        if memory:
          self.memory[name] = measure.peak_memory(compiled)

      into[name] = None  # Keeps the order.
      self._waiting.append(pool.submit(compile_it))

    for name, form in case.forms.items():
      submit(self.forward, name, form, *call)
      both = functools.partial(_value_and_pullback, form, len(case.arrays))
      if case.forward_only:
        both, cotangent = (lambda _, *a, form=form: form(*a)), 0.0
      submit(self.both, name, both, cotangent, *call, memory=True)
    if case.forward_only:
      return
    # A GPU's kernels are few and quickly compiled: there of all forms.
    forms = list(case.forms)
    forms = forms[-1:] if jax.default_backend() == "cpu" else forms
    for i, key in zip(range(len(case.arrays)), ("image_ms", "kernel_ms")):
      self.pulls[key] = {}
      for name in forms:
        pull = _pull(case, name, i)
        submit(self.pulls[key], name, pull, cotangent, *call)

  def wait(self):
    """Waits for our programs, and makes the rival's."""
    if self.against:
      torch = torch_ops.functions(self.case)
      self.forward["torch"], self.both["torch"], pulls = torch
      for pull, part in zip(pulls, self.pulls.values()):
        part["torch"] = pull
    for done in self._waiting:
      done.result()


def rows(ready: Ready, arguments: argparse.Namespace) -> list[dict[str, Any]]:
  """Returns a row for each implementation of a case."""
  case = ready.case

  def medians(functions):
    turns = {k: measure.repeated(f) for k, f in functions.items()}
    times = measure.interleaved(
      turns, rounds=arguments.rounds, least=3, budget=3.0
    )
    return {k: measure.median(t) / measure.calls() for k, t in times.items()}

  forward, both = medians(ready.forward), medians(ready.both)
  parts = {key: medians(pulls) for key, pulls in ready.pulls.items()}
  memory = ready.memory
  plain = next(iter(case.forms))
  moved = sum(a.nbytes for a in (*case.arrays, *case.constants))
  moved += jax.tree.reduce(
    lambda n, a: n + a.size * a.dtype.itemsize,
    jax.eval_shape(case.forms[plain], *case.arrays, *case.constants),
    0,
  )
  moved *= 1 if case.forward_only else 3
  return [
    {
      "op": case.op,
      "case": case.case,
      "implementation": name,
      "plain": name == plain,
      "forward_ms": 1e3 * forward[name],
      "both_ms": 1e3 * both[name],
      **{k: 1e3 * part[name] for k, part in parts.items() if name in part},
      "peak_mb": memory[name] / 2**20 if name in memory else None,
      "bandwidth": moved / both[name],
      "rate": case.operations / both[name],
      "ratio_forward": forward[plain] / forward[name],
      "ratio_both": both[plain] / both[name],
    }
    for name in both
  ]


def line(row: dict[str, Any]) -> str:
  """Returns a row as a line of at most 80 columns."""
  return (
    f"{row['op'][:20]:<20} {row['case'][:20]:<20} "
    f"{row['implementation'][:14]:<14}"
    f"{row['forward_ms']:8.2f}{row['both_ms']:8.2f} ms"
    f"{row['ratio_both']:6.1f}"
  )


def cases(dtype: str) -> Iterator[Case]:
  """Yields every case; arrays are made when its turn comes."""
  on_cpu = jax.default_backend() == "cpu"
  many = 1 if on_cpu else 32
  normal = functools.partial(_normal, dtype=dtype)

  for b, h, c, stride, rate in (
    (2, 64, 256, 1, 1),
    (2, 64, 256, 1, 2),
    (4, 33, 728, 1, 1),
    (2, 65, 128, 2, 1),
  ):
    words = {"stride": stride, "dilation": rate}
    out = -(-h // stride)
    yield Case(
      "depthwise 3x3",
      f"{b * many}x{h}x{h}x{c} s{stride} r{rate}",
      (normal(b * many, h, h, c), normal(3, 3, c)),
      {
        name: functools.partial(
          depthwise.depthwise_conv, implementation=name, **words
        )
        for name in ("native", "shifts")
      },
      functools.partial(torch_ops.conv, stride=stride, dilation=rate, groups=c),
      3 * 2 * 9 * b * many * out**2 * c,
    )

  for b, h, c, d, kernel, rate, *everywhere in (
    (4, 33, 728, 728, 1, 1, GPU),
    (2, 129, 64, 128, 1, 1),
    (1, 257, 64, 21, 1, 1, GPU),
    (1, 256, 64, 64, 3, 1, GPU),
    (2, 240, 64, 64, 3, 1),
    (2, 128, 128, 128, 3, 1, GPU),
    (1, 128, 64, 256, 3, 1),
    (1, 256, 16, 16, 3, 1),
    (1, 256, 3, 64, 3, 1, GPU),
    (2, 96, 128, 128, 3, 1),
    (2, 64, 128, 128, 3, 1),
    (1, 64, 256, 256, 3, 1, GPU),
    (4, 32, 512, 512, 3, 1, GPU),
    (1, 28, 512, 512, 3, 1),
    (1, 21, 512, 512, 3, 1),
    (2, 16, 512, 512, 3, 1),
    (2, 16, 2048, 512, 3, 1),
    (2, 8, 1024, 1024, 3, 1),
    (1, 9, 512, 4096, 7, 1, GPU),
    (2, 16, 512, 512, 3, 4),
    (1, 65, 512, 512, 3, 2, GPU),
    (1, 65, 256, 256, 3, 6, GPU),
    (1, 65, 256, 256, 3, 12, GPU),
    (1, 65, 256, 256, 3, 18, GPU),
  ):
    if not (on_cpu or everywhere):
      continue
    padding = rate * (kernel // 2)
    forms = ["native"]
    if kernel == 1:
      forms.append("matrix")
    if kernel == 7 or kernel == 3 and h <= 33:
      forms.append("patches")
    if kernel == 3 and on_cpu:
      forms += ["row_blocks", "winograd"]
    forms += ["space_to_batch"] if rate > 1 else []
    forms.append("auto")
    op = "dilated 3x3" if rate > 1 else f"convolution {kernel}x{kernel}"
    yield Case(
      op,
      f"{b * many}x{h}x{h} {c}>{d}" + (f" r{rate}" if rate > 1 else ""),
      (normal(b * many, h, h, c), normal(kernel, kernel, c, d)),
      {
        name: functools.partial(
          convolution.conv,
          padding=((padding, padding),) * 2,
          rhs_dilation=(rate, rate),
          implementation=name,
        )
        for name in forms
      },
      functools.partial(torch_ops.conv, dilation=rate),
      3 * 2 * kernel**2 * b * many * h**2 * c * d,
    )

  b, rate = many, 4
  yield Case(
    "3 dilated layers",
    f"{b}x64x64x256 r{rate}",
    (normal(b, 64, 64, 256), normal(3, 3, 256, 256)),
    {
      "native": functools.partial(_layers, rate=rate, implementation="native"),
      "space_to_batch": functools.partial(
        _layers, rate=rate, implementation="space_to_batch"
      ),
      "stay split": functools.partial(_split_layers, rate=rate),
    },
    None,
    3 * 3 * 2 * 9 * b * 64**2 * 256**2,
  )

  # AlexNet's conv2 of eight images.
  yield Case(
    "2 groups 5x5",
    f"{8 * many}x49x49 96>256",
    (normal(8 * many, 49, 49, 96), normal(5, 5, 48, 256)),
    {
      name: functools.partial(
        convolution.conv,
        padding=((2, 2), (2, 2)),
        feature_group_count=2,
        implementation=word,
      )
      for name, word in (("native", "native"), ("apart", "auto"))
    },
    functools.partial(torch_ops.conv, groups=2),
    3 * 2 * 25 * 8 * many * 49**2 * 48 * 256,
  )

  for b, h, c, d in ((2, 64, 256, 128), (1, 128, 128, 64)):
    yield Case(
      "transposed 2x2",
      f"{b * many}x{h}x{h} {c}>{d}",
      (normal(b * many, h, h, c), normal(2, 2, c, d)),
      {
        name: functools.partial(
          transposed.transposed_conv, stride=2, implementation=name
        )
        for name in ("native", "phases")
      },
      torch_ops.transposed,
      3 * 2 * 4 * b * many * h**2 * c * d,
    )

  for b, h, factor, c, convention in (
    (1, 64, 8, 21, "half_pixel"),
    (2, 64, 4, 64, "half_pixel"),
    (1, 33, 16, 21, "align_corners"),
    (1, 65, 8, 19, "align_corners"),
  ):
    size = h * factor
    if convention == "align_corners":
      size = (h - 1) * factor + 1
    word = {"size": (size, size), "convention": convention}
    forms = {
      "matrices": functools.partial(
        resizing.resize_bilinear, implementation="matrices", **word
      ),
      "phases": functools.partial(resizing.resize_bilinear, **word),
    }
    if convention == "half_pixel":
      forms = {
        "jax.image.resize": functools.partial(_jax_resize, size=size),
        **forms,
      }
    yield Case(
      f"bilinear x{factor}",
      f"{b * many}x{h}x{h}x{c} {convention[:5]}",
      (normal(b * many, h, h, c),),
      forms,
      functools.partial(
        torch_ops.bilinear, size=size, align=convention == "align_corners"
      ),
    )

  kernel = jnp.asarray(resizing.bilinear_kernel(16, 21), dtype)
  yield Case(
    "bilinear deconv x8",
    f"{many}x64x64x21",
    (normal(many, 64, 64, 21),),
    {
      "native": lambda x: transposed.transposed_conv(
        x, kernel, stride=8, implementation="native"
      ),
      "phases": lambda x: transposed.transposed_conv(x, kernel, stride=8),
      "bilinear_deconv": functools.partial(
        transposed.bilinear_deconv, factor=8
      ),
    },
    functools.partial(torch_ops.bilinear_deconv, factor=8),
  )

  for b, h, c, window, stride, padding in (
    (2, 128, 64, 2, 2, 0),
    (1, 256, 64, 2, 2, 0),
    (2, 129, 64, 3, 2, 1),
    (2, 33, 512, 3, 1, 1),
  ):
    words = {"window": window, "stride": stride, "padding": padding}
    yield Case(
      f"max pool {window}x{window}/{stride}",
      f"{b * many}x{h}x{h}x{c}",
      (normal(b * many, h, h, c),),
      {
        name: functools.partial(
          max_pooling.max_pool, implementation=name, **words
        )
        for name in ("native", "places")
      },
      functools.partial(torch_ops.pool, **words),
    )

  # The latter is the first pool of SegNet on the images of its paper.
  for b, h, w in ((2, 128, 128), (1, 360, 480)):
    x = normal(b * many, h, w, 64)
    values, index = pooling.max_pool_with_argmax(x)
    _, packed = pooling.max_pool_with_argmax(x, packed=True)
    yield Case(
      "pool with indices",
      f"{b * many}x{h}x{w}x64",
      (x,),
      {
        "reference": lambda x: pooling.max_pool_with_argmax_reference(x)[0],
        "places": lambda x: pooling.max_pool_with_argmax(x)[0],
        "packed": lambda x: pooling.max_pool_with_argmax(x, packed=True)[0],
      },
      functools.partial(
        torch_ops.pool, window=2, stride=2, padding=0, with_indices=True
      ),
    )
    unpool = functools.partial(pooling.max_unpool, size=(h, w))
    yield Case(
      "unpool 2x2",
      f"{b * many}x{h // 2}x{w // 2}x64",
      (values,),
      {
        "native": lambda x, i, p, unpool=unpool: unpool(
          x, i, implementation="native"
        ),
        "compare": lambda x, i, p, unpool=unpool: unpool(x, i),
        "packed": lambda x, i, p, unpool=unpool: unpool(x, p, packed=True),
      },
      functools.partial(torch_ops.unpool, index=index, size=(h, w)),
      constants=(index, packed),
    )

  for h, c, bins in ((65, 512, 6), (60, 2048, 3)):
    yield Case(
      "adaptive mean",
      f"{2 * many}x{h}x{h}x{c} to {bins}",
      (normal(2 * many, h, h, c),),
      {
        "reference": functools.partial(
          averaging.adaptive_avg_pool_reference, bins=bins
        ),
        "matrices": functools.partial(averaging.adaptive_avg_pool, bins=bins),
      },
      functools.partial(torch_ops.adaptive, bins=bins),
    )

  for (h, w), size, c, convention in (
    ((256, 512), (1024, 2048), 19, "half_pixel"),
    ((128, 256), (1024, 2048), 19, "half_pixel"),
    ((65, 129), (513, 1025), 19, "align_corners"),
    ((65, 65), (513, 513), 21, "align_corners"),
    ((45, 45), (353, 353), 21, "align_corners"),
    ((33, 33), (257, 257), 21, "align_corners"),
  ):
    images = 1 if on_cpu else 8
    scores = _normal(images, h, w, c, dtype="float32")
    label = (100 * _normal(images, *size, dtype="float32")).astype(int) % c
    text = f"{images}x{h}x{w}x{c} to {size[0]}x{size[1]}"
    yield Case(
      "upsampled loss",
      text,
      (scores,),
      {
        word: functools.partial(
          losses.total_upsampled_cross_entropy,
          convention=convention,
          implementation=word,
        )
        for word in ("plain", "tiles")
      },
      functools.partial(torch_ops.loss, label=label, convention=convention),
      constants=(label, jnp.ones(label.shape, jnp.float32)),
    )
    yield Case(
      "upsampled arg max",
      text,
      (scores,),
      {
        word: functools.partial(
          upsampled.upsampled_argmax,
          size=size,
          convention=convention,
          implementation=word,
        )
        for word in ("plain", "tiles")
      },
      forward_only=True,
    )


def _value_and_pullback(function, count, cotangent, *arrays):
  arrays, constants = arrays[:count], arrays[count:]
  value, pullback = jax.vjp(lambda *a: function(*a, *constants), *arrays)
  return value, pullback(cotangent)


def _pull(case, name, index):
  """Returns the function that makes one array's gradient alone."""
  form = case.forms[name]

  def pull(cotangent, *arrays):
    def of_one(array):
      return form(*arrays[:index], array, *arrays[index + 1 :])

    return jax.vjp(of_one, arrays[index])[1](cotangent)

  return pull


def _normal(*shape, dtype):
  """Returns random numbers that repeat after a million: nobody waits long."""
  numbers = np.random.default_rng(0).normal(size=2**20)
  count = math.prod(shape)

  @jax.jit
  def filled(x):
    whole = jnp.broadcast_to(x, (-(-count // x.size), x.size))
    return whole.reshape(-1)[:count].reshape(shape)

  return filled(jnp.asarray(numbers, dtype))


def _like(value):
  """Returns random cotangents of a value."""
  return jax.tree.map(lambda v: _normal(*v.shape, dtype=v.dtype), value)


def _layers(x, kernel, *, rate, implementation):
  for _ in range(3):
    x = convolution.conv(
      x,
      kernel,
      padding=((rate, rate),) * 2,
      rhs_dilation=(rate, rate),
      implementation=implementation,
    )
    x = jax.nn.relu(x)
  return x


def _split_layers(x, kernel, *, rate):
  size = x.shape[1:3]
  x = interleaved.split(x, rate)
  for _ in range(3):
    x = convolution.conv(
      x, kernel, padding=((1, 1), (1, 1)), implementation="native"
    )
    x = interleaved.clear_outside(jax.nn.relu(x), rate, size=size)
  return interleaved.join(x, rate, size=size)


def _jax_resize(x, *, size):
  shape = (x.shape[0], size, size, x.shape[3])
  return jax.image.resize(x, shape, "bilinear", antialias=False)


if __name__ == "__main__":
  main()
