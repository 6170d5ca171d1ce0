"""fcnjax models: the networks and their figures."""

from collections.abc import Sequence
import difflib
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
    InputError: if a name is unknown or a network refuses the size.
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
    model = models.create_model(name, num_classes=num_classes)
    try:
      row = profile.describe(
        model,
        name=name,
        paper=entry.paper,
        layers=entry.layers,
        size=tuple(size) if size else entry.size,
      )
    except ValueError as error:
      raise errors.InputError(f"{name}: {error}") from error
    rows.append(row)
  print(json.dumps(rows, indent=2) if json_output else table(rows))


def table(rows: Sequence[dict]) -> str:
  """Returns the rows as lines of at most 80 columns."""
  lines = [
    f"{'name':<40}{'parameters':>13}{'GMAC':>9}{'field':>9}{'stride':>8}"
  ]
  for row in rows:
    lines.append(
      f"{row['name']:<40}{row['parameters']:>13,}"
      f"{row['multiply_adds'] / 1e9:>9.1f}{row['receptive_field']:>9}"
      f"{row['output_stride']:>8}"
    )
  return "\n".join(lines)
