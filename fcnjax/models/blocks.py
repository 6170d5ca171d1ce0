"""What two papers or more share: convolutions, normalisation, up-convolution.

Every function here takes the name of the parameters it makes: parameter paths
are an interface, on which weights, masks and checkpoints depend.
"""

from collections.abc import Callable
import math

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax.ops import convolution

# He et al. 2015 as Caffe's "msra" filler and U-Net write it: a normal
# distribution, not truncated, of variance 2 / incoming connections.
HE_NORMAL = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")

NORMS = ("none", "batch", "frozen", "group")


def check_channels(
  image: Float[Array | np.ndarray, "b h w c"], in_channels: int
) -> None:
  """Raises ValueError if `image` has not `in_channels` channels."""
  if image.shape[-1] != in_channels:
    raise ValueError(
      f"The network was made for images of {in_channels} channels and got "
      f"{image.shape[-1]} (shape {image.shape}); create it with "
      f"in_channels={image.shape[-1]} or convert the images."
    )


def check_choice(word: str, value: str, known: tuple[str, ...]) -> None:
  """Raises ValueError, naming the known values, if `value` is none of them."""
  if value not in known:
    raise ValueError(
      f"{word} must be one of {', '.join(known)}; got {value!r}."
    )


def conv(
  features: int,
  kernel: int,
  *,
  name: str,
  dtype: str,
  padding: int | None = None,
  bias: bool = True,
  kernel_init: Callable = HE_NORMAL,
) -> nn.Conv:
  """Returns a square convolution of stride 1, padded alike on all sides.

  Args:
    features: number of output channels.
    kernel: side of the kernel, pixels.
    name: name of the parameters.
    dtype: in what the convolution computes; its parameters are float32.
    padding: zeros on each side; None keeps the size (odd kernels only).
    bias: whether a bias, at first zero, is added.
    kernel_init: how the kernel starts.
  """
  pad = kernel // 2 if padding is None else padding
  return nn.Conv(
    features,
    (kernel, kernel),
    padding=((pad, pad), (pad, pad)),
    use_bias=bias,
    dtype=dtype,
    param_dtype=jnp.float32,
    kernel_init=kernel_init,
    name=name,
  )


def norm(
  kind: str,
  *,
  train: bool,
  momentum: float,
  epsilon: float,
  dtype: str,
  shift: float = 0.0,
) -> Callable[..., Array]:
  """Returns the normalisation `f(x, name=...)` that a network uses throughout.

  Batch statistics are float32 whatever `dtype` is, and global when the batch
  is sharded under `jit`.

  Args:
    kind: "none"; "batch", with running statistics in the collection
      `batch_stats`; "frozen", batch norm that always uses them; or "group",
      over 32 groups, or the largest power of two of them below that which
      divides the channels into groups of two at least.
    train: whether "batch" uses and records the batch's own statistics.
    momentum: share of the old running statistics kept at each step, in [0, 1];
      0.9 here is what torch calls 0.1. With 0 they are the last batch's.
    epsilon: added to the variance.
    dtype: dtype of what is returned.
    shift: what the learned offset starts from.

  Raises:
    ValueError: if `kind` is unknown.
  """
  check_choice("norm", kind, NORMS)
  affine = {
    "epsilon": epsilon,
    "dtype": dtype,
    "param_dtype": jnp.float32,
    "bias_init": jax.nn.initializers.constant(shift),
  }

  def normalise(x: Float[Array, "b h w c"], *, name: str) -> Array:
    if kind == "none":
      return x
    if kind == "group":
      groups = min(32, math.gcd(64, x.shape[-1]) // 2 or 1)
      return nn.GroupNorm(num_groups=groups, name=name, **affine)(x)
    return nn.BatchNorm(
      use_running_average=kind == "frozen" or not train,
      momentum=momentum,
      name=name,
      **affine,
    )(x)

  return normalise


class UpConv(nn.Module):
  """Transposed convolution whose kernel is as long as its stride.

  Attributes:
    features: number of output channels.
    factor: kernel and stride; the output is this much larger.
    dtype: compute dtype.
  """

  features: int
  factor: int = 2
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, x: Float[Array | np.ndarray, "b h w c"]
  ) -> Float[Array, "b h2 w2 d"]:
    side = self.factor
    # Only one tap of the kernel meets each output pixel, so its incoming
    # connections are the input channels alone.
    init = jax.nn.initializers.variance_scaling(
      2.0 * side**2, "fan_in", "normal"
    )
    shape = (side, side, x.shape[-1], self.features)
    kernel = self.param("kernel", init, shape, jnp.float32)
    bias = self.param(
      "bias", jax.nn.initializers.zeros, (self.features,), jnp.float32
    )
    x, kernel, bias = (jnp.asarray(v, self.dtype) for v in (x, kernel, bias))
    y = convolution.transposed_conv(x, kernel, stride=side)
    return y + bias.reshape(1, 1, 1, -1)
