"""fcnjax models: the networks and their figures."""

from collections.abc import Sequence
import difflib
import functools
import json

from fcnjax import errors, models, profile


def run(
  names: Sequence[str],
  *,
  size: Sequence[int] | None = None,
  num_classes: int = 21,
  json_output: bool = False,
) -> None:
  """Prints a table, or a list of JSON objects.

  Args:
    names: of networks; none means all.
    size: height and width for the multiply-adds; None is each paper's own.
    num_classes: k.
    json_output: whether to print JSON.

  Raises:
    InputError: if a name is unknown or a network that was named refuses the
      size. Where all are listed, its multiply-adds are null.
  """
  known = models.list_models()
  for name in names:
    if name not in known:
      near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
      raise errors.InputError(
        f"there is no model {name!r}; the nearest is {near!r}, fcnjax models "
        "lists all."
      )
  rows = []
  for name in names or known:
    entry = models.MODELS[name]
    describe = functools.partial(
      profile.describe,
      models.create_model(name, num_classes=num_classes),
      name=name,
      paper=entry.paper,
      layers=entry.layers,
    )
    try:
      row = describe(size=tuple(size) if size else entry.size)
    except ValueError as error:
      if names:
        raise errors.InputError(f"{name}: {error}") from error
      # One of many: the others' figures are not lost for it.
      row = describe(size=entry.size)
      row |= {"multiply_adds": None, "multiply_adds_space_to_batch": None}
    rows.append(row)
  print(json.dumps(rows, indent=2) if json_output else table(rows))


def table(rows: Sequence[dict]) -> str:
  """Returns the rows as lines of at most 80 columns."""
  lines = [
    f"{'name':<40}{'parameters':>13}{'GMAC':>9}{'field':>9}{'stride':>8}"
  ]
  for row in rows:
    products = row["multiply_adds"]
    gmac = "–" if products is None else f"{products / 1e9:.1f}"
    lines.append(
      f"{row['name']:<40}{row['parameters']:>13,}{gmac:>9}"
      f"{row['receptive_field']:>9}{row['output_stride']:>8}"
    )
  return "\n".join(lines)
