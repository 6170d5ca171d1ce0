"""Cards of the data sets: what they are and where they come from."""

from fcnjax import errors
from fcnjax.data.datasets import camvid, cards, isbi2012

CARDS: dict[str, cards.Card] = {
  card.name: card for card in (camvid.CARD, isbi2012.CARD)
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
