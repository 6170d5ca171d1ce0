"""What the benchmarks measure with."""

import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import pytest

_BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def measure(tmp_path, monkeypatch):
  path = _BENCHMARKS / "measure.py"
  spec = importlib.util.spec_from_file_location("measure", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
  return module


def test_functions_take_turns(measure):
  calls = []
  functions = {name: lambda name=name: calls.append(name) for name in "ab"}
  times = measure.interleaved(functions, rounds=3)
  # Once beforehand; then a short call twice in its turn, of which the second
  # is timed, and the turns the other way round in every second round.
  assert "".join(calls) == "ab" + "aabb" + "bbaa" + "aabb"
  assert [len(times[name]) for name in "ab"] == [3, 3]
  times = measure.interleaved(functions, rounds=3, budget=0)
  assert len(times["a"]) == 1
  times = measure.interleaved(functions, rounds=3, least=2, budget=0)
  assert len(times["a"]) == 2


def test_results_are_whole_after_every_row(measure):
  results = measure.Results("some", precision="float32")
  for count in (1, 2):
    results.add({"network": f"n{count}", "ms": jnp.float32(1.5)})
    record = json.loads(results.path.read_text())
    assert len(record["rows"]) == count
  assert record["precision"] == "float32"
  assert {"device", "versions", "date", "command"} <= set(record)


def test_rows_stay_that_are_to_be_kept(measure):
  first = measure.Results("some", matrix_rate=3.0)
  first.record["command"] = "python benchmarks/some.py --first"
  first.add({"network": "a"})
  first.add({"network": "b"})
  second = measure.Results(
    "some", keep=lambda row: row["network"] == "a", matrix_rate=2.0
  )
  second.add({"network": "b", "ms": 1.0})
  record = json.loads(second.path.read_text())
  assert record["rows"] == [{"network": "a"}, {"network": "b", "ms": 1.0}]
  assert record["command"].startswith("python benchmarks/some.py --first; ")
  assert record["matrix_rate"] == 3.0
  assert measure.Results("some").record["rows"] == []
  # Of another device nothing stays.
  record["device"] = "another"
  second.path.write_text(json.dumps(record))
  third = measure.Results("some", keep=lambda row: True)
  assert third.record["rows"] == []


def test_random_variables_fill_every_leaf(measure):
  shapes = {
    "params": {
      "conv": {"kernel": jax.ShapeDtypeStruct((3, 3, 32, 200), jnp.float32)},
      "bn": {"scale": jax.ShapeDtypeStruct((7,), jnp.float32)},
    }
  }
  found = measure.random_variables(shapes)["params"]
  assert found["conv"]["kernel"].shape == (3, 3, 32, 200)
  assert abs(float(found["conv"]["kernel"].std()) - (2 / 288) ** 0.5) < 1e-3
  assert found["bn"]["scale"].min() >= 0.5


@pytest.mark.parametrize(
  ("device", "kind"),
  [
    ("2 cores of AMD EPYC", "cpu_amd"),
    ("2 cores of Intel(R) Xeon(R) Processor", "cpu_intel"),
    ("8 cores of 13th Gen Intel(R) Core(TM)", "cpu_intel"),
    ("2 cores of aarch64", "cpu"),
  ],
)
def test_processors_of_two_makers_have_files_of_their_own(
  measure, device, kind
):
  assert measure.kind_of_device(device) == kind
