"""What two papers or more share: convolutions, normalisation, dropout, a head.

Every function here takes the name of the parameters it makes: parameter paths
are an interface, on which weights, masks and checkpoints depend.

Precision. With `dtype="bfloat16"` convolutions, matrix products, activations
and what autodiff keeps of them are bfloat16; that is the time and the memory.
These stay float32, since they add many small things or are kept for long:
parameters and their gradients, the optimizer's state and averages, batch norm's
statistics, sums over a map (image pooling, HDNet's surroundings, affinities),
interpolations, scores from where networks add and upsample them (a learned
upsampling is a float32 convolution), logits, losses and their normalisers.
Counts are int32 on the device, int64 on the host.
"""

from collections.abc import Callable
import math

from flax import linen as nn
import jax
from jax import ad_checkpoint
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from fcnjax import typing
from fcnjax.ops import convolution, max_pooling, resizing

# He et al. 2015 as Caffe's "msra" filler and U-Net write it: a normal
# distribution, not truncated, of variance 2 / incoming connections.
HE_NORMAL = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")

NORMS = ("none", "batch", "frozen", "folded", "group")


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


def check_output_stride(value: int) -> None:
  """Raises ValueError if a backbone cannot have this output stride."""
  if value not in (8, 16, 32):
    raise ValueError(f"output_stride must be 8, 16 or 32; got {value!r}.")


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
  stride: int = 1,
  dilation: int = 1,
  groups: int = 1,
  bias: bool = True,
  kernel_init: Callable = HE_NORMAL,
  bias_init: Callable = nn.initializers.zeros,
) -> nn.Conv:
  """Returns a square convolution, padded alike on all sides.

  Args:
    features: number of output channels.
    kernel: side of the kernel, pixels.
    name: name of the parameters.
    dtype: in what the convolution computes; its parameters are float32.
    padding: zeros on each side; None is half of what the kernel covers, which
      with stride 1 keeps the size (odd kernels only).
    stride: pixels from one output to the next.
    dilation: pixels from one tap of the kernel to the next.
    groups: parts that the channels are cut into and convolved apart.
    bias: whether a bias is added.
    kernel_init: how the kernel starts.
    bias_init: how the bias starts.
  """
  pad = dilation * (kernel // 2) if padding is None else padding
  return nn.Conv(
    features,
    (kernel, kernel),
    strides=stride,
    kernel_dilation=dilation,
    feature_group_count=groups,
    conv_general_dilated=convolution.conv,
    padding=((pad, pad), (pad, pad)),
    use_bias=bias,
    dtype=dtype,
    param_dtype=jnp.float32,
    kernel_init=kernel_init,
    bias_init=bias_init,
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
      `batch_stats`; "frozen", batch norm that always uses them; "folded", what
      is left of it when a convolution has taken its factors (see `folding`): a
      bias; or "group", over 32 groups, or the largest power of two of them
      below that which divides the channels into groups of two at least.
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
    if kind == "folded":
      return Bias(affine["bias_init"], dtype, name=name)(x)
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


class Bias(nn.Module):
  """A number for each channel is added.

  Attributes:
    bias_init: how the numbers start.
    dtype: compute dtype.
  """

  bias_init: Callable
  dtype: str

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    bias = self.param("bias", self.bias_init, (x.shape[-1],), jnp.float32)
    return x.astype(self.dtype) + bias.astype(self.dtype).reshape(1, 1, 1, -1)


def kept(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
  """Returns what a stage gives, marked as such.

  Where a training step asks for it (`remat`), this is all that is kept for the
  backward pass; what lies between is computed again.
  """
  return ad_checkpoint.checkpoint_name(x, typing.STAGE)


def strided_pool(
  x: Float[Array, "b h w c"],
  window: int,
  *,
  strides: bool,
  dilation: int,
  rounding: str,
) -> Float[Array, "b h2 w2 c"]:
  """Returns an unpadded max pool of stride 2, or one whose stride is taken out.

  The latter's output has, at every second place (of `dilation` pixels), what
  the former's has; so a network that dilates behind it goes on computing the
  same, at twice the resolution.

  Args:
    x: features.
    window: side of the window.
    strides: whether it strides.
    dilation: pixels from one place of the window to the next, where it does
      not.
    rounding: "ceil" also pools what does not fill the last window.
  """
  if strides:
    return max_pooling.max_pool(x, window=window, stride=2, rounding=rounding)
  if rounding == "ceil":
    behind = (0, dilation)
    edges = ((0, 0), behind, behind, (0, 0))
    x = jnp.pad(x, edges, constant_values=-jnp.inf)
  return max_pooling.max_pool(x, window=window, stride=1, dilation=dilation)


def dropout(
  module: nn.Module,
  rate: float,
  x: Float[Array, "b h w c"],
  *,
  train: bool,
  maps: bool = False,
) -> Float[Array, "b h w c"]:
  """Returns `x` with dropout while training, or if there is a key for it.

  An evaluation with `rngs={"dropout": key}` is one Monte-Carlo sample (Gal and
  Ghahramani 2016); without a key nothing is dropped.

  Args:
    module: the one that calls.
    rate: in [0, 1); 0 is no dropout.
    x: features.
    train: whether the network is trained.
    maps: whether whole maps are dropped, not single values.
  """
  if not rate:
    return x
  drop = train or module.has_rng("dropout")
  axes = (1, 2) if maps else ()
  return nn.Dropout(rate, broadcast_dims=axes, deterministic=not drop)(x)


def norm_of(
  module: nn.Module, *, train: bool, epsilon: float, shift: float = 0.0
) -> Callable[..., Array]:
  """Returns `norm` by the fields `norm`, `bn_momentum`, `dtype` of a module."""
  return norm(
    module.norm,
    train=train,
    momentum=module.bn_momentum,
    epsilon=epsilon,
    shift=shift,
    dtype=module.dtype,
  )


def interpolated(name: str, coarse: typing.Coarse) -> typing.Outputs:
  """Returns the outputs `name`, logits, and coarse_`name`, the scores."""
  logits = resizing.resize_bilinear(
    coarse.scores, coarse.size, convention=coarse.convention
  )
  return {name: logits, f"coarse_{name}": coarse}


class FCNHead(nn.Module):
  """3x3 convolution, normalisation, ReLU, dropout, scores; interpolated.

  The auxiliary head of PSPNet and its kin, and torchvision's `FCNHead`.

  Attributes:
    num_classes: number of classes.
    stage: of the features.
    channels: between the convolutions.
    dropout: rate, in [0, 1).
    convention: of the interpolation, see `resizing`.
    norm: see `norm`.
    bn_momentum: see `norm`.
    dtype: compute dtype.
  """

  num_classes: int
  stage: str = "stage5"
  channels: int = 512
  dropout: float = 0.1
  convention: str = "half_pixel"
  norm: str = "batch"
  bn_momentum: float = 0.9
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, features: typing.Features, *, size: tuple[int, int], train: bool
  ) -> typing.Coarse:
    normalise = norm_of(self, train=train, epsilon=1e-5)
    x = features[self.stage]
    x = conv(self.channels, 3, bias=False, name="conv", dtype=self.dtype)(x)
    x = nn.relu(normalise(x, name="conv_bn"))
    x = dropout(self, self.dropout, x, train=train)
    x = conv(self.num_classes, 1, name="score", dtype=self.dtype)(x)
    return typing.Coarse(x.astype(jnp.float32), size, self.convention)
