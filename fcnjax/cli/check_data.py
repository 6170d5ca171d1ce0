"""fcnjax check-data: what is wrong with images and masks, in words."""

import ml_collections

from fcnjax.cli import open_data
from fcnjax.data import checks


def run(config: ml_collections.ConfigDict) -> None:
  """Checks every split that the config names and prints what it finds.

  Args:
    config: as for training.

  Raises:
    InputError: after everything was printed, if training would be wrong.
  """
  reports = []
  for which, word in open_data.SPLITS.items():
    if not config.data[word]:
      continue
    source = open_data.source(config, which)
    report = checks.check(source, num_classes=len(source.classes))
    print(f"{which} ({config.data[word]}): {len(source)} images")
    print(checks.text(report))
    reports.append(report)
  for report in reports:
    checks.require(report)
