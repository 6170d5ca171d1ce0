"""Something that is to be said about a data set, with a name and a remedy."""

from collections.abc import Callable, Sequence
import dataclasses

from fcnjax import errors

# From worst to harmless. An error makes training, or its score, wrong; a
# warning is probably not meant; a note is good to know.
SEVERITIES = ("error", "warning", "note")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
  """One thing that was found.

  Attributes:
    code: its name, for programs: words joined by "_" that never change.
    severity: one of `SEVERITIES`.
    message: what was found, a line.
    remedy: what to do, a line; empty if it is in the message.
    files: all files, or examples, that it was found in.
    examples: positions in the source of those that show it, worst first.
    splits: the splits that it was found in; empty where there are none.
  """

  code: str
  severity: str
  message: str
  remedy: str = ""
  files: tuple[str, ...] = ()
  examples: tuple[int, ...] = ()
  splits: tuple[str, ...] = ()

  @property
  def line(self) -> str:
    """Message and remedy in one line."""
    return f"{self.message} {self.remedy}".strip()


# What is told of a fault: it stops, or takes a note and returns.
Tell = Callable[[Finding], None]


def refuse(finding: Finding) -> None:
  """Stops at a fault.

  Raises:
    InputError: what was found, and the remedy.
  """
  raise errors.InputError(finding.line)


def of(found: Sequence[Finding], severity: str) -> tuple[Finding, ...]:
  """Returns the findings of a severity."""
  return tuple(finding for finding in found if finding.severity == severity)


def merged(found: Sequence[Finding]) -> list[Finding]:
  """Returns findings of which each is said once, the worst first.

  Those of several splits with the same name become the first one's, with the
  files of all; its examples are still positions in its own, first split.
  """
  first: dict[tuple[str, str], Finding] = {}
  for finding in found:
    key = finding.code, finding.severity
    if key not in first:
      first[key] = finding
      continue
    before = first[key]
    files = tuple(dict.fromkeys(before.files + finding.files))
    splits = tuple(dict.fromkeys(before.splits + finding.splits))
    message = before.message
    if finding.splits and finding.splits[0] not in before.splits:
      number = len(finding.files)
      count = f" ({number} file{'s' * (number > 1)})" if number else ""
      message += f" Likewise in {finding.splits[0]}{count}."
    first[key] = dataclasses.replace(
      before, message=message, files=files, splits=splits
    )
  return sorted(first.values(), key=lambda f: SEVERITIES.index(f.severity))
