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
  memory: bool = False,
) -> None:
  """Prints a table of at most 80 columns, or a list of JSON objects.

  Args:
    names: of networks; none means all.
    size: height and width for the multiply-adds; None is each paper's own.
    num_classes: k.
    json_output: whether to print JSON.
    memory: whether to tell what training keeps of an image, too.

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
  if not json_output:
    print(_head(memory))
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
      at = tuple(size) if size else entry.size
      row = describe(size=at, memory=memory)
    except ValueError as error:
      if names:
        raise errors.InputError(f"{name}: {error}") from error
      # One of many: the others' figures are not lost for it.
      row = describe(size=entry.size)
      row |= {"multiply_adds": None, "multiply_adds_space_to_batch": None}
      row |= {"activation_bytes": None, "index_bytes": None} if memory else {}
    rows.append(row)
    if not json_output:
      print(_line(row), flush=True)  # Counting all takes a while.
  if json_output:
    print(json.dumps(rows, indent=2))


def _head(memory: bool) -> str:
  head = f"{'name':<38} {'parameters':>11}{'GMAC':>8}{'field':>6}{'stride':>7}"
  return head + f"{'MB':>7}" * memory


def _line(row: dict) -> str:
  line = (
    f"{row['name']:<38} {row['parameters']:>11,}"
    f"{_scaled(row['multiply_adds'], 1e9):>8}"
    f"{row['receptive_field']:>6}{row['output_stride']:>7}"
  )
  if "activation_bytes" in row:
    line += f"{_scaled(row['activation_bytes'], 1e6, 0):>7}"
  return line


def _scaled(value: int | None, unit: float, digits: int = 1) -> str:
  return "–" if value is None else f"{value / unit:.{digits}f}"
