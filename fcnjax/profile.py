"""What a network costs and sees, from its shapes alone; nothing is computed."""

from collections.abc import Iterable, Sequence
import math
from typing import Any

import jax
from jax.extend import core
import jax.numpy as jnp

from fcnjax.ops import convolution

# What a value in the program of a network is made from, at most.
_CONSTANT, _PARAMETER, _DATA = 0, 1, 2

# The factors of a product that counts; attention multiplies data by data.
_COUNTED = ({_PARAMETER, _DATA}, {_DATA})


def parameters(
  model: Any, size: tuple[int, int], *, kernels: bool = False
) -> int:
  """Returns the number of learned numbers; running statistics do not count.

  Args:
    model: a network with a field `in_channels`.
    size: height and width of a legal image, pixels.
    kernels: whether biases and normalisation are left out, as SegNet's Table 1
      and the context module's 64 C² do.
  """
  return _count(_variables(model, size), kernels=kernels)


def multiply_adds(
  model: Any, size: tuple[int, int], *, space_to_batch: bool = False
) -> int:
  """Returns the multiply-adds of one image through the network.

  Counted are the products in convolutions and matrix products: output elements
  x taps, padding included as is usual; of a transposed convolution input
  elements x taps. Not counted are products
  with constants (interpolation by a fixed kernel), and whatever is done element
  by element: biases, normalisation, pooling.

  Args:
    model: a network with a field `in_channels`.
    size: height and width of the image, pixels.
    space_to_batch: whether a convolution of dilation r is counted as one of an
      output padded to a multiple of r, which is what is computed when the map
      is split into r x r interleaved ones. Depthwise ones are counted as they
      are; that is less than a thousandth of any network.

  Raises:
    ValueError: if the network loops an unknown number of times.
  """
  program, marks = _program(model, size, _variables(model, size))
  return _walk(program, marks, space_to_batch)[0]


def training_memory(model: Any, size: tuple[int, int]) -> tuple[int, int]:
  """Returns the bytes that the gradient of one image keeps: values, indices.

  Values are the intermediate results that the backward pass reads again,
  float32, and the masks of ReLU and dropout, a byte each: as autodiff asks for
  them, before XLA fuses or computes again, so an upper bound. Parameters and
  the image are not among them. Indices are where the maxima of the pools were:
  2 bits for each window of 2x2, as SegNet's section 3 counts, a byte for each
  that overlaps with others.

  Args:
    model: a network with a field `in_channels`.
    size: height and width of the image, pixels.
  """
  image, variables = _image(model, size), _variables(model, size)

  def kept(variables, image):
    rest = {k: v for k, v in variables.items() if k != "params"}

    def logits(params):
      outputs, _ = model.apply(
        {"params": params, **rest},
        image,
        train=True,
        mutable=list(rest),
        rngs={"dropout": jax.random.key(0)},
      )
      return outputs["logits"]

    return jax.vjp(logits, variables["params"])[1]

  with convolution.as_one_operation():
    program = jax.make_jaxpr(kept)(variables, image).jaxpr
  given = set(program.invars)
  values = {
    atom
    for atom in program.outvars
    if isinstance(atom, core.Var) and atom not in given
  }
  found = [value.aval for value in values]
  indices = sum(a.size for a in found if a.dtype == jnp.uint8)
  others = sum(a.size * a.dtype.itemsize for a in found if a.dtype != jnp.uint8)
  return others, indices


def receptive_field(layers: Iterable[Sequence[int]]) -> tuple[int, int]:
  """Returns the side of what one output sees, and its stride, in pixels.

  Args:
    layers: (kernel, stride) or (kernel, stride, dilation), from the image on.
      In FCN's words: f of (k, s) after g of (k', s') is of
      (k' + (k - 1) s', s s').
  """
  side, stride = 1, 1
  for kernel, step, *dilation in layers:
    side += (kernel - 1) * stride * (dilation[0] if dilation else 1)
    stride *= step
  return side, stride


def describe(
  model: Any,
  *,
  name: str,
  paper: str,
  layers: Sequence[Sequence[int]],
  size: tuple[int, int],
  memory: bool = False,
) -> dict[str, Any]:
  """Returns what `fcnjax models --json` prints about a network.

  Args:
    model: the network.
    name: its name.
    paper: where it was published.
    layers: (kernel, stride[, dilation]) of its deepest path.
    size: height and width of the image, pixels.
    memory: whether `training_memory` is told, too, which takes longer.
  """
  field, stride = receptive_field(layers)
  variables = _variables(model, size)
  program, marks = _program(model, size, variables)
  words = {
    "name": name,
    "paper": paper,
    "parameters": _count(variables, kernels=False),
    "kernel_parameters": _count(variables, kernels=True),
    "multiply_adds": _walk(program, marks, False)[0],
    "multiply_adds_space_to_batch": _walk(program, marks, True)[0],
    "receptive_field": field,
    "output_stride": stride,
  }
  if memory:
    kept = training_memory(model, size)
    words |= {"activation_bytes": kept[0], "index_bytes": kept[1]}
  return words


def _image(model: Any, size: tuple[int, int]) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((1, *size, model.in_channels), jnp.float32)


def _variables(model: Any, size: tuple[int, int]) -> dict[str, Any]:
  return jax.eval_shape(model.init, jax.random.key(0), _image(model, size))


def _count(variables: dict[str, Any], *, kernels: bool) -> int:
  return sum(
    math.prod(x.shape)
    for x in jax.tree.leaves(variables["params"])
    if x.ndim > 1 or not kernels
  )


def _program(
  model: Any, size: tuple[int, int], variables: dict[str, Any]
) -> tuple[core.Jaxpr, list[int]]:
  """Returns the program of a forward pass, and the marks of its inputs."""
  with convolution.as_one_operation():
    closed = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(
      variables, _image(model, size)
    )
  marks = [_PARAMETER] * len(jax.tree.leaves(variables)) + [_DATA]
  return closed.jaxpr, marks


def _walk(
  jaxpr: core.Jaxpr, marks: Sequence[int], space_to_batch: bool
) -> tuple[int, list[int]]:
  """Returns the multiply-adds of a program, and the marks of its results.

  Args:
    jaxpr: the program.
    marks: of its inputs.
    space_to_batch: see `multiply_adds`.
  """
  known = dict(zip(jaxpr.invars, marks, strict=True))
  total = 0

  def mark(atom):
    # Literals and the program's own constants are not among the known.
    is_variable = isinstance(atom, core.Var)
    return known.get(atom, _CONSTANT) if is_variable else _CONSTANT

  for eqn in jaxpr.eqns:
    inputs = [mark(atom) for atom in eqn.invars]
    outputs = [max(inputs, default=_CONSTANT)] * len(eqn.outvars)
    inner = _inner_program(eqn)
    operator = _OPERATORS.get(eqn.params.get("name"))
    if operator is not None:
      total += operator(eqn) if set(inputs) in _COUNTED else 0
    elif inner is not None:
      count, outputs = _walk(inner, inputs, space_to_batch)
      total += count * eqn.params.get("length", 1)
    elif eqn.primitive.name in _COUNTS and set(inputs) in _COUNTED:
      total += _COUNTS[eqn.primitive.name](eqn, space_to_batch)
    known.update(zip(eqn.outvars, outputs))
  return total, [mark(atom) for atom in jaxpr.outvars]


def _inner_program(eqn: core.JaxprEqn) -> core.Jaxpr | None:
  """Returns the program that an equation calls, if it calls one.

  Raises:
    ValueError: if it calls several, or one an unknown number of times.
  """
  inner = [
    getattr(value, "jaxpr", value)
    for value in eqn.params.values()
    if isinstance(value, core.Jaxpr | core.ClosedJaxpr)
  ]
  if eqn.primitive.name in ("while", "cond"):
    raise ValueError(
      f"Cannot count the multiply-adds of {eqn.primitive.name!r}: how often "
      "it runs depends on values."
    )
  return inner[0] if inner else None


def _conv(eqn: core.JaxprEqn, space_to_batch: bool) -> int:
  lhs, rhs = (atom.aval.shape for atom in eqn.invars)
  numbers = eqn.params["dimension_numbers"]
  out_channels, in_channels = numbers.rhs_spec[:2]
  if max(eqn.params["lhs_dilation"]) > 1:
    groups = eqn.params["feature_group_count"]
    return math.prod(lhs) * math.prod(rhs) // rhs[in_channels] // groups
  out = list(eqn.outvars[0].aval.shape)
  if space_to_batch:
    for axis, rate in zip(numbers.out_spec[2:], eqn.params["rhs_dilation"]):
      out[axis] = -(-out[axis] // rate) * rate
  return math.prod(out) * math.prod(rhs) // rhs[out_channels]


def _dot(eqn: core.JaxprEqn, space_to_batch: bool) -> int:
  del space_to_batch  # A matrix product has no dilation.
  lhs = eqn.invars[0].aval.shape
  contracted = eqn.params["dimension_numbers"][0][0]
  out = math.prod(eqn.outvars[0].aval.shape)
  return out * math.prod(lhs[axis] for axis in contracted)


def _depthwise(eqn: core.JaxprEqn) -> int:
  height, width, _ = eqn.invars[1].aval.shape
  return math.prod(eqn.outvars[0].aval.shape) * height * width


def _transposed(eqn: core.JaxprEqn) -> int:
  image, kernel = (atom.aval.shape for atom in eqn.invars)
  return math.prod(image[:3]) * math.prod(kernel)


# Operators of our own whose program does not show what they are; by the name
# of the jitted function.
_OPERATORS = {"depthwise_conv": _depthwise, "transposed_conv": _transposed}

_COUNTS = {"conv_general_dilated": _conv, "dot_general": _dot}
