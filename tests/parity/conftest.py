"""Networks of torchvision and timm, and their variables as ours."""

import importlib.util
import re
import sys

import numpy as np
import pytest


@pytest.fixture(scope="session")
def torch_():
  """This module, with torchvision and timm.

  torchvision has no build for a CPU torch; installed without its dependencies
  it imports beside one if its fake operators are passed over.
  """
  for name in ("torch", "torchvision", "timm"):
    if importlib.util.find_spec(name) is None:
      pytest.skip(f"{name} is not installed: pip install --no-deps {name}")
  import torch
  from torch import library

  register = library.register_fake

  def register_others(name, *args, **kwargs):
    if isinstance(name, str) and name.startswith("torchvision::"):
      return lambda function: function
    return register(name, *args, **kwargs)

  library.register_fake = register_others
  try:
    import timm
    import torchvision
  finally:
    library.register_fake = register
  this = sys.modules[__name__]
  this.torch, this.timm, this.torchvision = torch, timm, torchvision
  return this


_LEAVES = {
  "weight": ("params", "scale"),
  "bias": ("params", "bias"),
  "running_mean": ("batch_stats", "mean"),
  "running_var": ("batch_stats", "var"),
}


torch = timm = torchvision = None  # Set by the fixture.


def randomise(network, seed=0):
  """Draws all that a fresh network has as zeros or ones; to evaluation."""
  generator = torch.Generator().manual_seed(seed)
  for name, value in network.state_dict().items():
    if name.endswith(("running_mean", "bias")):
      value.normal_(0, 0.2, generator=generator)
    elif value.ndim == 1:  # Variances and factors of batch norm.
      value.uniform_(0.5, 1.5, generator=generator)
    elif value.ndim == 4:
      deviation = (2 / value[0].numel()) ** 0.5
      value.normal_(0, deviation, generator=generator)
  return network.eval()


def variables(network, rules, shapes):
  """Returns our variables with the values of a torch network.

  Args:
    network: of torch.
    rules: (pattern of a torch module's whole name, ours), tried in order.
    shapes: our variables' shapes; every one must be filled, and fit.
  """
  found = {}
  for name, value in network.state_dict().items():
    module, _, leaf = name.rpartition(".")
    if leaf == "num_batches_tracked":
      continue
    path = next(
      (
        re.sub(pattern, to, module)
        for pattern, to in rules
        if re.fullmatch(pattern, module)
      ),
      None,
    )
    assert path is not None, f"no rule for {name}"
    collection, word = _LEAVES[leaf]
    array = value.numpy()
    if array.ndim == 4:
      word = "kernel"
      array = array.transpose(2, 3, 1, 0)
    tree = found.setdefault(collection, {})
    *parents, last = path.split("/")
    for part in (*parents, last):
      tree = tree.setdefault(part, {})
    tree[word] = array

  def fit(path, shape, array):
    assert array is not None, f"{path} is not filled"
    if len(shape.shape) == 3 and array.ndim == 4:  # A depthwise kernel.
      array = array[:, :, 0]
    assert array.shape == shape.shape, (path, array.shape, shape.shape)
    return array

  return _walk(shapes, found, fit, "")


def _walk(shapes, found, fit, path):
  if not isinstance(shapes, dict):
    return fit(path, shapes, found)
  unknown = set(found or {}) - set(shapes)
  assert not unknown, f"{path} has no {sorted(unknown)}"
  return {
    name: _walk(inner, (found or {}).get(name), fit, f"{path}/{name}")
    for name, inner in shapes.items()
  }


def outputs_of(network, names, image):
  """Returns what the named modules of a torch network give, channels last."""
  kept = {}

  def keep(name):
    def hook(module, inputs, output):
      kept[name] = output.detach().clone()

    return hook

  modules = dict(network.named_modules())
  hooks = [modules[name].register_forward_hook(keep(name)) for name in names]
  with torch.no_grad():
    result = network(torch.from_numpy(image.transpose(0, 3, 1, 2)))
  for hook in hooks:
    hook.remove()
  result = result if isinstance(result, dict) else {"out": result}
  return {
    name: value.numpy().transpose(0, 2, 3, 1)
    for name, value in (kept | dict(result)).items()
    if value.ndim == 4
  }


def relative_error(ours, theirs):
  """Returns the largest difference, as a part of the largest value."""
  ours = np.asarray(ours)
  assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
  return np.abs(ours - theirs).max() / np.abs(theirs).max()
