"""Cards of the data sets: what they are and where they come from."""

from fcnjax import errors
from fcnjax.data.datasets import (
  ade20k,
  camvid,
  cards,
  cell_tracking,
  cityscapes,
  coco_stuff,
  isbi2012,
  nyudv2,
  oxford_pets,
  pascal_context,
  sift_flow,
  sun_rgbd,
  voc,
)

CARDS: dict[str, cards.Card] = {
  card.name: card
  for card in (
    voc.VOC2011,
    voc.VOC2012,
    nyudv2.CARD,
    sift_flow.SEMANTIC_CARD,
    sift_flow.GEOMETRIC_CARD,
    camvid.CARD,
    sun_rgbd.CARD,
    pascal_context.CARD_59,
    pascal_context.CARD_60,
    ade20k.CARD,
    coco_stuff.CARD,
    cityscapes.CARD,
    isbi2012.CARD,
    cell_tracking.PHC_U373,
    cell_tracking.DIC_HELA,
    oxford_pets.CARD,
  )
}


def get(name: str) -> cards.Card:
  """Returns a card by name.

  Raises:
    InputError: if there is none; lists those there are.
  """
  if name not in CARDS:
    raise errors.InputError(
      f"no data set is called {name!r}; known are {', '.join(CARDS)}."
    )
  return CARDS[name]
