"""The scores of a run, and the signs of life that are given meanwhile."""

import jax.numpy as jnp

from fcnjax.cli import defaults, evaluate
from fcnjax.data import scenes


def test_every_scored_image_is_a_sign_of_life():
  source = scenes.Scenes("val", size=(32, 32), count=5)
  count = len(source.classes)
  signs = []
  scores = evaluate.score(
    defaults.get_config(),
    lambda image: jnp.zeros((*image.shape[:3], count)),
    source,
    after=lambda: signs.append(len(signs)),
  )
  assert scores["images"] == 5
  assert signs == [0, 1, 2, 3, 4]
