"""A trace is of three steps, and is written, too, if the run is shorter."""

import jax
import jax.numpy as jnp
import pytest

from fcnjax.training import trace


@pytest.mark.parametrize("steps", [5, 9])
def test_the_fourth_to_the_sixth_step_are_traced(tmp_path, monkeypatch, steps):
  calls = []
  annotated = jax.profiler.StepTraceAnnotation

  def annotation(name, *, step_num):
    calls.append(step_num)
    return annotated(name, step_num=step_num)

  monkeypatch.setattr(jax.profiler, "StepTraceAnnotation", annotation)
  traced = trace.Trace(tmp_path / "profile", first=10)
  for number in range(11, 11 + steps):
    with traced.step(number):
      values = jnp.ones(3) + number
    traced.end(number, values)
  traced.close()
  assert calls == [14, 15, 16][: steps - 3]
  names = [path.name for path in (tmp_path / "profile").rglob("*")]
  assert "perfetto_trace.json.gz" in names
  assert any(name.endswith(".xplane.pb") for name in names)


def test_without_a_folder_nothing_is_traced(tmp_path):
  traced = trace.Trace(None, first=0)
  for number in range(1, 9):
    with traced.step(number):
      pass
    traced.end(number, None)
  traced.close()
  assert not list(tmp_path.iterdir())
