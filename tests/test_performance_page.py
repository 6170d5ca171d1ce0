"""docs/performance.md is what its script writes, and holds what files hold."""

import importlib.util
import json
import pathlib
import re

import pytest

_ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def performance(monkeypatch):
  monkeypatch.syspath_prepend(_ROOT / "benchmarks")
  path = _ROOT / "benchmarks" / "performance.py"
  spec = importlib.util.spec_from_file_location("performance", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_the_page_is_what_the_script_writes(performance):
  page = (_ROOT / "docs" / "performance.md").read_text()
  assert page == performance.page(), "run python benchmarks/performance.py"


def test_gpu_rows_are_open_until_there_are_some(performance, tmp_path):
  sentence = "GPU: open, no result has been recorded yet."
  for name in ("models", "ops"):
    (tmp_path / f"{name}_cpu_amd.json").write_text(json.dumps({"rows": []}))
  before = performance.page(tmp_path).split("\n## Operators\n")
  (tmp_path / "ops_gpu.json").write_text(json.dumps({"rows": []}))
  after = performance.page(tmp_path).split("\n## Operators\n")
  assert sentence in before[1].partition("\n## ")[0]
  assert sentence not in after[1].partition("\n## ")[0]
  assert sentence in before[0]


def test_what_has_no_result_names_a_script_that_is_there(performance, tmp_path):
  page = performance.page(tmp_path)
  named = re.findall(r"No result of `(benchmarks/\w+\.py)([^`]*)` has", page)
  assert len(named) >= 10
  for path, words in named:
    script = _ROOT / path
    assert script.is_file(), path
    for word in words.split():
      assert f'"{word}"' in script.read_text()
  assert ("benchmarks/endurance.py", " --many-steps") in named


def test_rows_may_lack_what_others_have(performance, tmp_path):
  plain = {"op": "unpool", "case": "2x2", "implementation": "plain"}
  rows = [
    plain | {"forward_ms": 1.2345, "both_ms": 250.0},
    {"op": "unpool", "implementation": "ours", "ratio_both": 12.345,
     "bandwidth": 4.56e9, "peak_mb": None},
  ]  # fmt: skip
  record = {
    "device": "a device",
    "versions": {"jax": "9.9"},
    "date": "2001-02-03",
    "command": "python benchmarks/ops.py",
    "copy_bandwidth": 10e9,
    "rows": rows,
  }
  (tmp_path / "ops_cpu_amd.json").write_text(json.dumps(record))
  page = performance.page(tmp_path)
  for line in (
    "* Device: a device",
    "* Versions: jax 9.9",
    "* Date: 2001-02-03",
    "* Command: `python benchmarks/ops.py`",
    "| operator | case | implementation | forward, ms | both, ms "
    "| of the bandwidth | both, times |",
    "| unpool | 2x2 | plain | 1.23 | 250 |  |  |",
    "| unpool |  | ours |  |  | 46% | 12.35 |",
  ):
    assert line in page.splitlines()


def test_means_are_geometric_and_failures_are_told(performance, tmp_path):
  rows = [
    {"network": "a", "way": "train", "size": [8, 9], "ratio": 0.5},
    {"network": "b", "way": "train", "size": [8, 9], "ratio": 8.0},
    {"network": "c", "failed": "exit code 1"},
  ]
  (tmp_path / "models_cpu_amd.json").write_text(json.dumps({"rows": rows}))
  page = performance.page(tmp_path)
  assert "Geometric means: train 2.00." in page
  assert "| a | train | 8×9 | 0.50 |  |" in page.splitlines()
  assert "| c |  |  |  | exit code 1 |" in page.splitlines()


def test_rows_of_any_form_become_a_table(performance, tmp_path):
  rows = [{"path": "resident", "images_per_second": 1234.5, "more": [1]}]
  (tmp_path / "pipeline_cpu_amd.json").write_text(json.dumps({"rows": rows}))
  lines = performance.page(tmp_path).splitlines()
  assert "| path | images per second |" in lines
  assert "| resident | 1234 |" in lines


def test_of_many_meshes_the_largest_differences_are_told(performance, tmp_path):
  rows = [
    {"network": "unet", "processes": 1, "mesh": mesh, "parameters": "cut",
     "losses": losses, "gradient": 2e-9}
    for mesh, losses in (("data", 0.0), ("data", 3e-8), ("space", 1e-9))
  ]  # fmt: skip
  (tmp_path / "devices_cpu_amd.json").write_text(json.dumps({"rows": rows}))
  page = performance.page(tmp_path)
  assert "| unet | 1 | data | cut | 2 | 3e-08 | 2e-09 |" in page
  assert "| unet | 1 | space | cut | 1 | 1e-09 | 2e-09 |" in page
