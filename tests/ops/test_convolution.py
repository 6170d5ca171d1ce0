"""Convolutions against torch, each other and their definition."""

import functools

import hypothesis
from hypothesis import given, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fcnjax.ops import (
  averaging,
  convolution,
  convolution_passes,
  depthwise,
  interleaved,
  resizing,
  row_blocks,
  transposed,
)


def _normal(shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# kernel, (h, w), channels in and out, padding, rate, implementation
FORMS = [
  (1, (7, 6), (5, 3), 0, 1, "matrix"),
  (3, (7, 6), (5, 3), 1, 1, "patches"),
  (3, (5, 9), (2, 4), 2, 2, "patches"),
  (3, (7, 6), (5, 3), 1, 1, "row_blocks"),
  (3, (9, 11), (2, 4), 0, 1, "row_blocks"),
  (3, (9, 11), (2, 4), 3, 3, "row_blocks"),
  (2, (5, 8), (3, 2), 1, 1, "row_blocks"),
  (3, (1, 1), (2, 2), 1, 1, "row_blocks"),
  (3, (7, 6), (5, 3), 1, 1, "winograd"),
  (3, (5, 13), (2, 4), 0, 1, "winograd"),
  (3, (9, 11), (2, 4), 3, 3, "winograd"),
  (3, (6, 17), (3, 2), 3, 2, "winograd"),
  (3, (1, 1), (2, 2), 1, 1, "winograd"),
  (3, (6, 5), (2, 2), 5, 1, "winograd"),
  (3, (8, 12), (2, 3), 4, 4, "space_to_batch"),
  (3, (7, 5), (2, 3), 2, 2, "space_to_batch"),
  (3, (4, 5), (2, 3), 6, 6, "space_to_batch"),
  (2, (7, 9), (2, 3), 0, 3, "space_to_batch"),
]


def _value_and_pullback(function, *primals):
  value, pullback = jax.vjp(jax.jit(function), *primals)
  return value, pullback(_normal(value.shape, seed=7).astype(value.dtype))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("form", FORMS, ids=lambda f: f"{f[-1]}-{f[1]}")
def test_every_form_of_conv_equals_torch(form, dtype, monkeypatch):
  torch = pytest.importorskip("torch")
  kernel, size, (c, d), padding, rate, implementation = form
  if implementation == "winograd" and dtype == "bfloat16":
    with pytest.raises(ValueError, match="winograd.*bfloat16"):
      convolution.conv(
        jnp.zeros((1, 5, 5, 2), dtype),
        jnp.zeros((3, 3, 2, 2), dtype),
        implementation=implementation,
      )
    return
  # A block of a few rows, the last of which is not full.
  monkeypatch.setattr(row_blocks, "BLOCK_BYTES", 4000)
  x = jnp.asarray(_normal((2, *size, c)), dtype)
  weights = jnp.asarray(_normal((kernel, kernel, c, d), seed=1), dtype)
  function = functools.partial(
    convolution.conv,
    padding=((padding, padding),) * 2,
    rhs_dilation=(rate, rate),
    implementation=implementation,
  )
  value, gradients = _value_and_pullback(jax.jit(function), x, weights)
  assert value.dtype == x.dtype
  assert [g.dtype for g in gradients] == [x.dtype, weights.dtype]

  torch_x, torch_w = (
    torch.tensor(np.asarray(v, np.float32).transpose(axes), requires_grad=True)
    for v, axes in ((x, (0, 3, 1, 2)), (weights, (3, 2, 0, 1)))
  )
  expected = torch.nn.functional.conv2d(
    torch_x, torch_w, padding=padding, dilation=rate
  )
  cotangent = _normal(value.shape, seed=7).transpose(0, 3, 1, 2)
  rounded = jnp.asarray(cotangent, dtype).astype(jnp.float32)
  expected.backward(torch.tensor(np.array(rounded)))
  bound = 1e-5 if dtype == "float32" else 2e-2
  for ours, theirs, axes in (
    (value, expected.detach(), (0, 2, 3, 1)),
    (gradients[0], torch_x.grad, (0, 2, 3, 1)),
    (gradients[1], torch_w.grad, (2, 3, 1, 0)),
  ):
    theirs = theirs.permute(axes).numpy()
    np.testing.assert_allclose(
      np.asarray(ours, np.float32), theirs, atol=bound * np.abs(theirs).max()
    )


@pytest.mark.parametrize("implementation", ["winograd", "row_blocks"])
def test_each_side_has_its_own_padding_and_rate(implementation):
  x, kernel = _normal((2, 9, 11, 3)), _normal((3, 3, 3, 2), seed=1)
  words = {"padding": ((0, 3), (5, 1)), "rhs_dilation": (2, 3)}
  for ours, theirs in zip(
    *(
      jax.tree.leaves(
        _value_and_pullback(
          functools.partial(convolution.conv, implementation=word, **words),
          x,
          kernel,
        )
      )
      for word in (implementation, "native")
    )
  ):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@hypothesis.settings(max_examples=20)
@given(st.data())
def test_conv_of_any_shape_equals_xlas(data):
  draw, integers = data.draw, st.integers
  implementation = draw(
    st.sampled_from(
      ["matrix", "patches", "row_blocks", "winograd", "space_to_batch"]
    )
  )
  sides = {"matrix": (1, 1), "winograd": (3, 3)}
  side = draw(integers(*sides.get(implementation, (2, 3))))
  rates = {"space_to_batch": (2, 4), "winograd": (1, 4)}
  rate = draw(integers(*rates.get(implementation, (1, 1))))
  strides = implementation in ("matrix", "patches")
  stride = draw(integers(1, 3)) if strides else 1
  # Rates and paddings of each side by itself, as far as the form has them.
  uneven = implementation in ("row_blocks", "winograd")
  rate = (rate, draw(integers(1, 4)) if uneven else rate)
  most = 0 if implementation == "matrix" else 2 * max(rate)
  padding = [[draw(integers(0, most)) for _ in range(2)] for _ in range(2)]
  size = [
    draw(integers(max(1, (side - 1) * r + 1 - sum(p)), 13))
    for r, p in zip(rate, padding)
  ]
  x = _normal((draw(integers(1, 2)), *size, draw(integers(1, 3))))
  kernel = _normal((side, side, x.shape[-1], draw(integers(1, 3))), seed=1)
  words = {
    "window_strides": (stride, stride),
    "padding": padding,
    "rhs_dilation": rate,
  }
  ours, theirs = (
    _value_and_pullback(
      functools.partial(convolution.conv, implementation=word, **words),
      x,
      kernel,
    )
    for word in (implementation, "native")
  )
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
    ours,
    theirs,
  )


def test_conv_chooses_by_platform_and_shape(monkeypatch):
  def primitives(x, kernel, **words):
    function = functools.partial(convolution.conv, **words)
    program = jax.make_jaxpr(
      lambda x, kernel: jax.vjp(function, x, kernel)[1](function(x, kernel))
    )(x, kernel)
    return str(program)

  x, point = np.zeros((1, 24, 24, 8), np.float32), _normal((1, 1, 8, 4))
  large, kernel = np.zeros((1, 81, 81, 8), np.float32), _normal((3, 3, 8, 4))
  small = np.zeros((1, 9, 9, 8), np.float32)
  around = {"padding": ((1, 1), (1, 1))}
  far = {"padding": ((4, 4), (4, 4)), "rhs_dilation": (4, 4)}
  assert "conv_general" not in primitives(x, point)
  assert "conv_general" not in primitives(small, kernel, **around)
  assert "conv_general" in primitives(x, kernel, **around)
  assert "scan" in primitives(large, kernel, **around)
  few, narrow = np.zeros((1, 81, 81, 4), np.float32), _normal((3, 3, 4, 4))
  assert "scan" not in primitives(few, narrow, **around)
  assert "rhs_dilation=(4, 4)" in primitives(x, kernel, **far)
  with convolution.as_one_operation():
    for image, weights in ((x, point), (small, kernel)):
      assert "dot_general" not in primitives(image, weights)
    assert "scan" not in primitives(large, kernel, **around)
  # Grouped, too, it is one operation for counting.
  wide, pairs = np.zeros((1, 9, 9, 8), np.float32), _normal((3, 3, 4, 8))
  words = {"feature_group_count": 2, **around}
  assert primitives(wide, pairs, **words).count("concatenate") > 0
  with convolution.as_one_operation():
    program = primitives(wide, pairs, **words)
    assert "feature_group_count=2" in program
    assert "concatenate" not in program
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  for image, weights in ((x, point), (small, kernel)):
    assert "dot_general" not in primitives(image, weights)
  assert "scan" not in primitives(large, kernel, **around)
  assert "rhs_dilation=(1, 1)" in primitives(x, kernel, **far)
  assert "rhs_dilation=(4, 4)" not in primitives(x, kernel, **far)


# h, w, c, d, rate -> what each pass is on a CPU.
CHOICES = [
  ((24, 24, 32, 32, 1), ("winograd", "winograd", "winograd")),
  ((24, 24, 32, 32, 2), ("winograd", "winograd", "winograd")),
  ((24, 24, 32, 31, 1), ("native", "native", "row_blocks")),  # Few channels.
  ((15, 15, 32, 32, 1), ("patches", "patches", "patches")),  # Few pixels.
  ((17, 17, 8, 8, 1), ("native", "native", "patches")),
  ((22, 22, 32, 32, 1), ("winograd", "patches", "winograd")),
  ((22, 22, 32, 32, 2), ("patches", "patches", "winograd")),
  ((22, 22, 2048, 512, 1), ("patches", "patches", "winograd")),
  ((23, 23, 8, 8, 1), ("native", "native", "row_blocks")),
  ((24, 25, 32, 32, 10), ("native", "native", "row_blocks")),  # Empty tiles.
  ((1600, 1600, 32, 32, 1), ("native", "native", "row_blocks")),  # The memory.
  ((24, 24, 2048, 512, 1), ("native", "native", "winograd")),  # The kernel.
]


@pytest.mark.parametrize(("case", "expected"), CHOICES)
def test_each_pass_of_conv_is_chosen_by_itself(case, expected, monkeypatch):
  h, w, c, d, rate = case
  seen = []
  monkeypatch.setattr(
    convolution_passes,
    "conv",
    lambda x, kernel, geometry, passes: (
      seen.append(passes) or jnp.zeros((*x.shape[:3], d))
    ),
  )
  convolution.conv(
    jnp.zeros((1, h, w, c)),
    jnp.zeros((3, 3, c, d)),
    padding=((rate, rate),) * 2,
    rhs_dilation=(rate, rate),
  )
  assert seen == [expected]


def test_winograd_is_as_exact_as_float32_allows():
  """Against float64: some times the error of XLA's own sum, not more."""
  x, kernel = _normal((1, 24, 24, 128)), _normal((3, 3, 128, 64), seed=1)

  def results(implementation, x, kernel):
    function = functools.partial(
      convolution.conv,
      padding=((1, 1), (1, 1)),
      implementation=implementation,
    )
    return jax.tree.leaves(_value_and_pullback(function, x, kernel))

  with jax.enable_x64():
    truth = results("native", *(jnp.asarray(a, "float64") for a in (x, kernel)))
  for ours, theirs, exact in zip(
    results("winograd", x, kernel), results("native", x, kernel), truth
  ):
    exact = np.asarray(exact)
    error, least = (
      np.linalg.norm(np.asarray(found) - exact) / np.linalg.norm(exact)
      for found in (ours, theirs)
    )
    assert least < 1e-6
    assert error < 3e-6


@pytest.mark.parametrize(
  ("kernel", "stride", "rate"), [(7, 1, 1), (3, 2, 1), (3, 1, 2)]
)
def test_one_channel_a_group_is_depthwise(kernel, stride, rate):
  x, weights = _normal((2, 15, 14, 8)), _normal((kernel, kernel, 1, 8), seed=1)
  pad = rate * (kernel // 2)
  words = {
    "window_strides": (stride, stride),
    "padding": ((pad, pad), (pad, pad)),
    "rhs_dilation": (rate, rate),
    "feature_group_count": 8,
  }
  ours, theirs = (
    functools.partial(convolution.conv, implementation=word, **words)
    for word in ("auto", "native")
  )
  # A new function each time: traces are kept by it.
  program = jax.make_jaxpr(lambda x, w: ours(x, w))(x, weights)
  assert "conv_general" not in str(program)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
    _value_and_pullback(ours, x, weights),
    _value_and_pullback(theirs, x, weights),
  )
  with convolution.as_one_operation():
    program = jax.make_jaxpr(lambda x, w: ours(x, w))(x, weights)
  assert "conv_general" in str(program)


# Operators on x [2, 9, 8, 6] and a kernel, None where there is none.
BFLOAT16 = {
  "depthwise": (depthwise.depthwise_conv, (3, 3, 6)),
  "depthwise, stride 2": (
    functools.partial(depthwise.depthwise_conv, stride=2),
    (3, 3, 6),
  ),
  "depthwise, rate 2": (
    functools.partial(depthwise.depthwise_conv, dilation=2),
    (3, 3, 6),
  ),
  "transposed 2x2": (
    functools.partial(transposed.transposed_conv, stride=2),
    (2, 2, 6, 5),
  ),
  "transposed 4x4": (
    functools.partial(transposed.transposed_conv, stride=2, padding=1),
    (4, 4, 6, 5),
  ),
  "two groups": (
    functools.partial(convolution.conv, feature_group_count=2),
    (3, 3, 3, 4),
  ),
  "bilinear deconv": (
    lambda x, _: transposed.bilinear_deconv(x, factor=2),
    None,
  ),
  "adaptive mean": (lambda x, _: averaging.adaptive_avg_pool(x, 4), None),
  "bilinear": (lambda x, _: resizing.resize_bilinear(x, (27, 24)), None),
  "split": (
    lambda x, _: interleaved.join(
      interleaved.clear_outside(interleaved.split(x, 4), 4, size=(9, 8)),
      4,
      size=(9, 8),
    ),
    None,
  ),
}


@pytest.mark.parametrize("name", BFLOAT16)
def test_bfloat16_gradients_are_float32s_rounded(name):
  """Of the same rounded numbers: each is rounded once, not each summand."""
  function, shape = BFLOAT16[name]
  x = jnp.asarray(_normal((2, 9, 8, 6)), jnp.bfloat16)
  kernel = None if shape is None else jnp.asarray(_normal(shape), jnp.bfloat16)
  found = {}
  for dtype in (jnp.bfloat16, jnp.float32):
    arrays = jax.tree.map(lambda a, dtype=dtype: a.astype(dtype), (x, kernel))
    value, pullback = jax.vjp(jax.jit(function), *arrays)
    cotangent = jnp.asarray(_normal(value.shape, 2), jnp.bfloat16)
    gradients = pullback(cotangent.astype(dtype))
    assert all(g.dtype == dtype for g in jax.tree.leaves(gradients))
    found[dtype] = jax.tree.leaves(gradients)
  for ours, exact in zip(found[jnp.bfloat16], found[jnp.float32]):
    ours, exact = np.asarray(ours, np.float32), np.asarray(exact)
    # A bfloat16 has 8 bits: half a unit of the last is 2^-9 of the value; sums
    # of a few terms that cancel have rounded terms, too.
    np.testing.assert_allclose(
      ours, exact, rtol=2**-7, atol=2**-7 * np.abs(exact).max()
    )


def test_conv_refuses_what_a_form_cannot_do():
  x, kernel = _normal((1, 5, 5, 4)), _normal((3, 3, 4, 4))
  for words, message in (
    ({"implementation": "fast"}, "implementation must be one of native"),
    ({"implementation": "matrix"}, '"matrix" cannot do a kernel of'),
    (
      {"implementation": "row_blocks", "window_strides": (2, 2)},
      "cannot do a kernel of .* stride",
    ),
    ({"implementation": "space_to_batch"}, "cannot do a kernel"),
    ({"dimension_numbers": ("NCHW", "OIHW", "NCHW")}, "conv needs"),
  ):
    with pytest.raises(ValueError, match=message):
      convolution.conv(x, kernel, **words)


def test_a_kernel_larger_than_the_map_gives_an_empty_one():
  x, kernel = np.zeros((1, 4, 4, 3), np.float32), _normal((7, 7, 3, 2))
  assert convolution.conv(x, kernel).shape == (1, 0, 0, 2)
  # Padding may be negative for XLA; then XLA computes it.
  x, kernel = _normal((1, 90, 90, 8)), _normal((3, 3, 8, 2))
  words = {"padding": ((-1, 0), (0, 1))}
  ours, theirs = (
    jax.grad(
      lambda k, word=word: (
        convolution.conv(x, k, implementation=word, **words) ** 2
      ).sum()
    )(kernel)
    for word in ("auto", "native")
  )
  np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (2, 3)])
def test_layers_of_one_rate_stay_split(size):
  """Split once, two dense layers, joined: two dilated layers."""
  rate, edges = 4, ((4, 4), (4, 4))
  x = _normal((2, *size, 3))
  first, second = _normal((3, 3, 3, 4), seed=1), _normal((3, 3, 4, 2), seed=2)

  def dilated(x, kernel):
    return convolution.conv(
      x,
      kernel,
      padding=edges,
      rhs_dilation=(rate, rate),
      implementation="native",
    )

  # The bias makes what lies outside of the map anything but zero.
  expected = dilated(dilated(x, first) + 1, second)
  dense = functools.partial(convolution.conv, padding=((1, 1), (1, 1)))
  parts = interleaved.split(x, rate)
  assert parts.shape[0] == 2 * rate**2
  parts = dense(parts, first) + 1
  parts = interleaved.clear_outside(parts, rate, size=size)
  got = interleaved.join(dense(parts, second), rate, size=size)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(
    interleaved.join(interleaved.split(x, rate), rate, size=size), x
  )


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_conv_equals_xlas(groups):
  x, kernel = _normal((2, 9, 7, 16)), _normal((3, 5, 16 // groups, 24), seed=1)
  words = {
    "window_strides": (2, 1),
    "padding": ((1, 1), (0, 2)),
    "rhs_dilation": (1, 2),
    "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
    "feature_group_count": groups,
  }
  got = jax.vjp(lambda *a: convolution.conv(*a, **words), x, kernel)
  wanted = jax.vjp(
    lambda *a: jax.lax.conv_general_dilated(*a, **words), x, kernel
  )
  cotangent = _normal(wanted[0].shape, seed=2)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-4),
    (got[0], got[1](cotangent)),
    (wanted[0], wanted[1](cotangent)),
  )


@pytest.mark.parametrize("layout", ["torch", "tensorflow"])
def test_a_classifier_is_a_convolution(layout):
  """Its heat map is the classifier, run at every position."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(1, 7, 8, 3)).astype(np.float32)
  weights = rng.normal(size=(4 * 5 * 3, 6)).astype(np.float32)
  kernel = convolution.kernel_of_dense(weights, window=(4, 5), layout=layout)
  heat = jax.lax.conv_general_dilated(
    x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  assert heat.shape == (1, 4, 4, 6)
  for i in range(4):
    for j in range(4):
      window = x[0, i : i + 4, j : j + 5]
      if layout == "torch":
        window = window.transpose(2, 0, 1)
      expected = window.reshape(-1) @ weights
      np.testing.assert_allclose(heat[0, i, j], expected, rtol=1e-4, atol=1e-5)
  with pytest.raises(ValueError, match="60 inputs are no map of 7 x 7"):
    convolution.kernel_of_dense(weights, window=(7, 7))
