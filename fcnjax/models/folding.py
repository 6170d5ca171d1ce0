"""Batch norm folded into the convolution before it, for inference.

With running statistics, batch norm multiplies each channel by a number and adds
another. The first goes into the kernel, the second stays as a bias, which
compilers join with the convolution and its activation.
"""

from typing import Any

from flax import linen as nn
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from fcnjax.models import separable, upsampling

# Whose parameter "kernel" has the output's channels last.
_CONVOLUTIONS = (nn.Conv, separable.DepthwiseConv, upsampling.UpConv)


def fold_batch_norm(
  model: nn.Module,
  variables: dict[str, Any],
  image: Float[Array | np.ndarray, "b h w c"] | jax.ShapeDtypeStruct,
) -> dict[str, Any]:
  """Returns the variables of the same network made with `norm="folded"`.

  y = s (x * k - m) / sqrt(v + e) + b becomes x * k f + (b - m f) with
  f = s / sqrt(v + e). Which convolution stands before which batch norm, and e,
  are seen by running the network on shapes; names do not matter.

  Args:
    model: as the variables are of, with norm="batch" or "frozen"; what a
      convolution gives to a batch norm goes nowhere else in it.
    variables: "params", "batch_stats", and others, which stay as they are.
    image: of any legal size; only its shape matters.

  Returns:
    New collections, without "batch_stats"; parameters that nothing normalises
    are the very arrays that were given, and so are those that only training
    uses (an auxiliary head's).

  Raises:
    ValueError: if there is no batch norm, or one behind something else than a
      convolution of its own.
  """
  folded = {k: v for k, v in variables.items() if k != "batch_stats"}
  params = jax.tree.map(lambda leaf: leaf, variables["params"])  # New dicts.
  folded["params"] = params
  pairs = _pairs(model, variables, image)
  if not pairs:
    raise ValueError(
      "The network has no batch norm to fold; use it as it is, or create it "
      "with norm='batch'."
    )
  for norm, (conv, epsilon) in pairs.items():
    stats = _at(variables["batch_stats"], norm)
    kernel, affine = _at(params, conv), _at(params, norm)
    factor = affine.pop("scale") / jnp.sqrt(stats["var"] + epsilon)
    affine["bias"] = affine["bias"] - stats["mean"] * factor
    # The channels of the output are a kernel's last axis, and a bias's only.
    for name in kernel.keys() & {"kernel", "bias"}:
      leaf = kernel[name]
      shape = (1,) * (leaf.ndim - 1) + factor.shape
      kernel[name] = leaf * factor.reshape(shape)
  return folded


Path = tuple[str, ...]


def _pairs(
  model: nn.Module, variables: dict[str, Any], image: Any
) -> dict[Path, tuple[Path, float]]:
  """Returns batch norm -> (convolution before it, epsilon), all by path."""
  outputs: dict[int, tuple[Path, Any]] = {}
  pairs: dict[Path, tuple[Path, float]] = {}

  def watch(call, args, kwargs, context):
    result = call(*args, **kwargs)
    module = context.module
    if context.method_name != "__call__":
      return result
    if isinstance(module, _CONVOLUTIONS):
      # The array is kept, so that no other takes its number.
      outputs[id(result)] = module.path, result
    elif isinstance(module, nn.BatchNorm):
      conv, _ = outputs.get(id(args[0]), (None, None))
      if conv is None or any(conv == other for other, _ in pairs.values()):
        raise ValueError(
          f"The batch norm {'/'.join(module.path)} follows no convolution of "
          "its own and cannot be folded."
        )
      pairs[module.path] = conv, module.epsilon
    return result

  with nn.intercept_methods(watch):
    jax.eval_shape(
      lambda v, x: model.apply(v, x, train=False), variables, image
    )
  return pairs


def _at(tree: dict[str, Any], path: Path) -> dict[str, Any]:
  for name in path:
    tree = tree[name]
  return tree
