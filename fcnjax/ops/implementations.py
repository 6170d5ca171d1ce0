"""The word that says how an operator is computed."""

from collections.abc import Sequence


def check(implementation: str, known: Sequence[str]) -> None:
  """Refuses a word that is not among those an operator knows.

  Raises:
    ValueError: with all known words.
  """
  if implementation not in known:
    raise ValueError(
      f"implementation must be one of {', '.join(known)}; got "
      f"{implementation!r}."
    )
