"""Where a network's time goes: its convolutions one by one, against PyTorch.

  python benchmarks/layers.py [NETWORK ...] [--minutes 8]

Every convolution of the network at the sizes of benchmarks/models.py: forward,
gradient of the image and of the kernel, each a program of its own, by turns
with PyTorch's. A row sums one of the three over the network, weighted by how
often a layer occurs, and names the layers that lose most.
"""

import argparse
import collections
import functools
import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import measure
import networks
import numpy as np
import torch

from fcnjax import models
from fcnjax.ops import convolution
from fcnjax.training import host_memory

PASSES = ("forward", "image gradient", "kernel gradient")


def main() -> None:
  """Measures the networks and saves three rows of each."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("networks", nargs="*", default=networks.RACED)
  parser.add_argument(
    "--minutes", type=float, default=8, help="then no layer is begun"
  )
  arguments = parser.parse_args()
  host_memory.keep_freed()
  began = time.monotonic()
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  results = measure.Results(
    "layers", keep=lambda row: row["network"] not in arguments.networks
  )
  known: dict[Any, dict[str, float]] = {}
  for name in arguments.networks:
    layers = convolutions(name)
    for layer in layers:
      if time.monotonic() - began > 60 * arguments.minutes:
        break
      if layer not in known:
        known[layer] = times(*layer)
    if not layers.keys() <= known.keys():
      print(f"{name}: not finished, {arguments.minutes:g} minutes are over")
      continue
    for row in rows(name, layers, known):
      results.add(row)
      print(
        f"{name:<24}{row['pass']:<17}{row['ms']:8.0f}{row['torch_ms']:8.0f} ms"
        f"{row['ratio']:7.2f}",
        flush=True,
      )


def convolutions(name: str) -> collections.Counter[tuple[Any, ...]]:
  """Returns (image, kernel, stride, padding, rate) -> how often it occurs."""
  entry = models.MODELS[name]
  size, batch = networks.SMALL.get(name, networks.SMALL_OTHERS)
  model = models.create_model(name, num_classes=21, in_channels=entry.channels)
  found: collections.Counter[tuple[Any, ...]] = collections.Counter()
  original = convolution.conv

  def noted(x, kernel, stride, padding, *, rhs_dilation=None, **words):
    if words.get("feature_group_count", 1) == 1:
      pads = tuple(map(tuple, padding))
      rate = tuple(rhs_dilation or (1, 1))
      found[x.shape, kernel.shape, tuple(stride), pads, rate] += 1
    words["rhs_dilation"] = rhs_dilation
    return original(x, kernel, stride, padding, **words)

  convolution.conv = noted
  try:
    image = jax.ShapeDtypeStruct((batch, *size, entry.channels), jnp.float32)
    jax.eval_shape(model.init, jax.random.key(0), image)
  finally:
    convolution.conv = original
  return found


def times(image, kernel, stride, padding, rate) -> dict[str, float]:
  """Returns the milliseconds of each pass, and of "torch " + each."""
  function = functools.partial(
    convolution.conv, window_strides=stride, padding=padding, rhs_dilation=rate
  )
  x, k = (
    jax.random.normal(jax.random.key(i), shape)
    for i, shape in enumerate((image, kernel))
  )
  y = jax.random.normal(jax.random.key(2), jax.eval_shape(function, x, k).shape)
  programs = (
    (jax.jit(function), x, k),
    (
      jax.jit(lambda x, k, y: jax.vjp(lambda x: function(x, k), x)[1](y)),
      x,
      k,
      y,
    ),
    (
      jax.jit(lambda x, k, y: jax.vjp(lambda k: function(x, k), k)[1](y)),
      x,
      k,
      y,
    ),
  )
  tx, ty = (torch.tensor(np.asarray(a)).permute(0, 3, 1, 2) for a in (x, y))
  tk = torch.tensor(np.asarray(k)).permute(3, 2, 0, 1)
  tk = tk.contiguous(memory_format=torch.channels_last)
  words = {
    "stride": stride,
    "padding": tuple(p[0] for p in padding),
    "dilation": rate,
  }
  rivals = (
    lambda: torch.nn.functional.conv2d(tx, tk, **words),
    lambda: torch.nn.grad.conv2d_input(tx.shape, tk, ty, **words),
    lambda: torch.nn.grad.conv2d_weight(tx, tk.shape, ty, **words),
  )
  functions = {}
  for word, program, rival in zip(PASSES, programs, rivals):
    functions[word] = functools.partial(*program)
    functions[f"torch {word}"] = functools.partial(_done, rival)
  # Three at least, so that one slow call is not a median.
  found = measure.interleaved(functions, rounds=5, least=3, budget=2)
  return {word: 1e3 * measure.median(t) for word, t in found.items()}


def rows(name, layers, known) -> list[dict[str, Any]]:
  """Returns a row for each pass of a network."""
  found = []
  for word in PASSES:
    ours = {layer: n * known[layer][word] for layer, n in layers.items()}
    theirs = {
      layer: n * known[layer][f"torch {word}"] for layer, n in layers.items()
    }
    worst = sorted(layers, key=lambda layer: theirs[layer] - ours[layer])[:3]
    lost = [layer for layer in worst if ours[layer] > theirs[layer]]
    found.append(
      {
        "network": name,
        "pass": word,
        "ms": sum(ours.values()),
        "torch_ms": sum(theirs.values()),
        "ratio": sum(theirs.values()) / sum(ours.values()),
        "most is lost in": "; ".join(
          f"{layers[layer]} x {_words(layer)} "
          f"({ours[layer]:.1f}, torch {theirs[layer]:.1f} ms)"
          for layer in lost
        ),
      }
    )
  return found


def _words(layer) -> str:
  (b, h, w, c), (kh, kw, _, d), stride, _, rate = layer
  more = f" stride {stride[0]}" if stride[0] > 1 else ""
  more += f" rate {rate[0]}" if rate[0] > 1 else ""
  return f"{kh}x{kw} {c} to {d} of {b}x{h}x{w}{more}"


def _done(rival) -> None:
  """Calls it; what PyTorch's CPU returns is ready, and no array of JAX."""
  with torch.no_grad():
    rival()


if __name__ == "__main__":
  main()
