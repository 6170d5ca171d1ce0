"""fcnjax models: a table, and JSON."""

import json

from fcnjax import models
from fcnjax.cli import main


def test_models(capsys, monkeypatch):
  assert main.main(["models", "unet", "--json", "--num-classes", "2"]) == 0
  (row,) = json.loads(capsys.readouterr().out)
  assert set(row) == {
    "name",
    "paper",
    "parameters",
    "kernel_parameters",
    "multiply_adds",
    "multiply_adds_space_to_batch",
    "receptive_field",
    "output_stride",
  }
  words = ["models", "unet_same", "--memory", "--size", "64", "64"]
  assert main.main(words) == 0
  head, line = capsys.readouterr().out.splitlines()
  assert head.split()[-1] == "MB"
  assert float(line.split()[-1]) > 1
  assert len(head) == len(line) <= 80
  assert main.main(["models", "unte"]) == 2
  assert "'unet'" in capsys.readouterr().err
  assert main.main(["models", "unet", "--size", "570", "570"]) == 2
  assert "legal" in capsys.readouterr().err
  # Those of which one refuses the size, and one has the longest name.
  some = ("unet", "fcn_basic_no_addition_no_dim_reduction", "hdnet_resnet50")
  table = {name: models.MODELS[name] for name in some}
  monkeypatch.setattr(models, "MODELS", table)
  assert main.main(["models", "--size", "96", "96"]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert max(map(len, lines)) <= 80
  assert [line.split()[2] for line in lines if line.startswith("unet ")] == [
    "–"
  ]
