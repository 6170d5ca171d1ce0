"""Smooth random deformation.

Source: U-Net (MICCAI 2015) section 3.1: displacement vectors on a coarse 3 x 3
grid, drawn from a Gaussian with 10 pixels standard deviation, interpolated
bicubically to every pixel.
"""

from collections.abc import Sequence

import tensorflow as tf


def displacement_field(
  seed: tf.Tensor | Sequence[int],
  size: tf.Tensor | Sequence[int],
  *,
  grid: int = 3,
  sigma: float = 10.0,
) -> tf.Tensor:
  """Returns a smooth random field of displacements.

  The corners of the grid lie on the centres of the corner pixels. At every
  pixel the mean is 0. The standard deviation is sigma at a node and less in
  between, since a value is a sum of nodes there; on a 3 x 3 grid it is
  sigma sqrt(f(u) f(v)), f(u) = 1 - 3/2 u^2 (1 - u^2), at (u, v) in [-1, 1]^2
  from the centre: at least 5/8 sigma.

  Args:
    seed: the stateless seed, an integer tensor [2].
    size: height and width in pixels.
    grid: nodes a side; at least 3.
    sigma: standard deviation of the displacement at a node, in pixels.

  Returns:
    float32 [h, w, 2], (dy, dx) in pixels.

  Raises:
    ValueError: if the grid is too small for a bicubic surface.
  """
  if grid < 3:
    raise ValueError(f"grid must have at least 3 nodes a side, got {grid}.")
  nodes = sigma * tf.random.stateless_normal([grid, grid, 2], seed)
  return bicubic_surface(nodes, size)


def bicubic_surface(
  nodes: tf.Tensor, size: tf.Tensor | Sequence[int]
) -> tf.Tensor:
  """Returns the surface through a regular grid of nodes, at every pixel.

  Cubic convolution with a = -1/2 (the Catmull-Rom spline) along both axes,
  with Keys' boundary condition (IEEE ASSP 29, 1981): the node outside is that
  of the parabola through the last three. Parabolas are reproduced exactly; on
  a 3 x 3 grid the surface is the biquadratic one.

  Args:
    nodes: float32 [n, m, c], both at least 3.
    size: height and width in pixels.

  Returns:
    float32 [h, w, c].
  """
  vertical = _bicubic_matrix(size[0], nodes.shape[0])
  horizontal = _bicubic_matrix(size[1], nodes.shape[1])
  return tf.stack(
    [
      vertical @ nodes[..., i] @ tf.transpose(horizontal)
      for i in range(nodes.shape[-1])
    ],
    axis=-1,
  )


def _bicubic_matrix(length: tf.Tensor | int, nodes: int) -> tf.Tensor:
  """Returns [length, nodes]: each pixel as a sum of nodes."""
  pixels = tf.cast(tf.range(length), tf.float32)
  last = tf.cast(tf.maximum(length - 1, 1), tf.float32)
  place = pixels * (nodes - 1) / last
  # Nodes -1 and `nodes` exist only here; they are folded back below.
  distance = tf.abs(place[:, None] - tf.range(-1.0, nodes + 1.0))
  near = (1.5 * distance - 2.5) * distance * distance + 1
  far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
  weights = tf.where(distance <= 1, near, tf.where(distance < 2, far, 0.0))
  ghost = tf.one_hot([0, 1, 2], nodes) * [[3.0], [-3.0], [1.0]]
  ghost = tf.reduce_sum(ghost, axis=0)
  return (
    weights[:, 1:-1]
    + weights[:, :1] * ghost
    + weights[:, -1:] * tf.reverse(ghost, [0])
  )
