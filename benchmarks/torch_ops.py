"""The operators of benchmarks/ops.py in torch: channels last in memory.

Each but `functions` takes torch, a function from our arrays to tensors, and our
arrays; it returns the operator and what it is called with.
"""

from collections.abc import Callable
import functools
import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from fcnjax.ops import indices, resizing


def functions(
  case: Any,
) -> tuple[Callable, Callable, list[Callable]]:
  """Returns forward, forward and backward, and each gradient, in torch."""
  import torch

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  device = "cuda" if torch.cuda.is_available() else "cpu"
  torch.backends.cudnn.benchmark = True

  tensor = torch.from_dlpack

  operator, inputs = case.torch(torch, tensor, *case.arrays)
  if device == "cuda":
    from torch._dynamo import config as dynamo
    from torch._functorch import config as functorch

    dynamo.recompile_limit = 1000
    functorch.donated_buffer = False  # Gradients of one result, often.
    compiled = torch.compile(operator, dynamic=False)
    try:
      compiled(*inputs)
      operator = compiled
    except Exception as error:  # The compiler's, of any kind: then without.
      print(f"{case.op}: torch is not compiled, {type(error).__name__}")

  def ready():
    if device == "cuda":
      torch.cuda.synchronize()

  def forward():
    with torch.no_grad():
      operator(*inputs)
    ready()

  with torch.no_grad():
    cotangent = torch.randn_like(operator(*inputs))

  def both():
    torch.autograd.grad(operator(*inputs), inputs, cotangent)
    ready()

  result = operator(*inputs)

  def pull(index):
    torch.autograd.grad(result, inputs[index], cotangent, retain_graph=True)
    ready()

  return forward, both, [functools.partial(pull, i) for i in range(len(inputs))]


def _image(tensor, x):
  """[b h w c] as torch sees an image whose channels come last in memory."""
  return tensor(x).permute(0, 3, 1, 2).requires_grad_()


def _kernel(torch, tensor, kernel):
  kernel = tensor(kernel).permute(3, 2, 0, 1)
  return kernel.contiguous(memory_format=torch.channels_last).requires_grad_()


def conv(torch, tensor, x, kernel, *, stride=1, dilation=1, groups=1):
  if kernel.ndim == 3:
    kernel = kernel[:, :, None]
  operator = functools.partial(
    torch.nn.functional.conv2d,
    stride=stride,
    padding=dilation * (kernel.shape[0] // 2),
    dilation=dilation,
    groups=groups,
  )
  return operator, (_image(tensor, x), _kernel(torch, tensor, kernel))


def transposed(torch, tensor, x, kernel):
  operator = functools.partial(torch.nn.functional.conv_transpose2d, stride=2)
  kernel = _kernel(torch, tensor, kernel.swapaxes(2, 3))
  return operator, (_image(tensor, x), kernel)


def bilinear(torch, tensor, x, *, size, align):
  operator = functools.partial(
    torch.nn.functional.interpolate,
    size=(size, size),
    mode="bilinear",
    align_corners=align,
  )
  return operator, (_image(tensor, x),)


def bilinear_deconv(torch, tensor, x, *, factor):
  tent = resizing.bilinear_filter(2 * factor)
  kernel = jnp.asarray(np.tile(tent, (x.shape[-1], 1, 1, 1)), x.dtype)
  operator = functools.partial(
    torch.nn.functional.conv_transpose2d,
    weight=tensor(kernel),
    stride=factor,
    groups=x.shape[-1],
  )
  return operator, (_image(tensor, x),)


def pool(torch, tensor, x, *, window, stride, padding, with_indices=False):
  def operator(x):
    y = torch.nn.functional.max_pool2d(
      x, window, stride, padding, return_indices=with_indices
    )
    return y[0] if with_indices else y

  return operator, (_image(tensor, x),)


def adaptive(torch, tensor, x, *, bins):
  operator = functools.partial(
    torch.nn.functional.adaptive_avg_pool2d, output_size=bins
  )
  return operator, (_image(tensor, x),)


def loss(torch, tensor, scores, *, label, convention):
  scores = _image(tensor, scores)
  label = tensor(label).long()

  def operator(scores):
    logits = torch.nn.functional.interpolate(
      scores,
      size=tuple(label.shape[1:]),
      mode="bilinear",
      align_corners=convention == "align_corners",
    )
    return torch.nn.functional.cross_entropy(logits, label, reduction="sum")

  return operator, (scores,)


def unpool(torch, tensor, x, *, index, size):
  flat = tensor(indices.flat_indices(index, size=size)).long()
  operator = functools.partial(
    torch.nn.functional.max_unpool2d,
    indices=flat.permute(0, 3, 1, 2),
    kernel_size=2,
  )
  return operator, (_image(tensor, x),)
