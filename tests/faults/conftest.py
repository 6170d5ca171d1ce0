"""A tiny run that ended undisturbed, and programs that are compiled once."""

import pathlib

import jax
from jax.experimental.compilation_cache import compilation_cache
import pytest

from fcnjax.cli import main
from tests.faults import tiny


@pytest.fixture(scope="session")
def programs(tmp_path_factory) -> pathlib.Path:
  """Where programs are kept: the runs of all modules are of the same ones."""
  return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def compiled(programs):
  """Keeps what is compiled, and loads it."""
  before = jax.config.jax_compilation_cache_dir
  least = jax.config.jax_persistent_cache_min_compile_time_secs
  compilation_cache.reset_cache()
  jax.config.update("jax_compilation_cache_dir", str(programs))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  yield
  jax.config.update("jax_compilation_cache_dir", before)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
  compilation_cache.reset_cache()


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> pathlib.Path:
  return tiny.write_images(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, compiled, data) -> pathlib.Path:
  """The workdir of a run that nothing has happened to."""
  workdir = tmp_path_factory.mktemp("undisturbed") / "run"
  assert main.main(tiny.words(data, workdir)) == 0
  return workdir
