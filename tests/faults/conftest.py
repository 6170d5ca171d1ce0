"""A tiny run that ended undisturbed, and programs that are compiled once."""

import pathlib

import jax
from jax.experimental.compilation_cache import compilation_cache
import pytest

from fcnjax.cli import main
from tests.faults import tiny


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
  """Keeps what is compiled: the runs of a module are of the same programs."""
  before = jax.config.jax_compilation_cache_dir
  least = jax.config.jax_persistent_cache_min_compile_time_secs
  compilation_cache.reset_cache()
  folder = tmp_path_factory.mktemp("compiled")
  jax.config.update("jax_compilation_cache_dir", str(folder))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
  yield folder
  jax.config.update("jax_compilation_cache_dir", before)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
  compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> pathlib.Path:
  return tiny.write_images(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, compiled, data) -> pathlib.Path:
  """The workdir of a run that nothing has happened to."""
  workdir = tmp_path_factory.mktemp("undisturbed") / "run"
  assert main.main(tiny.words(data, workdir)) == 0
  return workdir
