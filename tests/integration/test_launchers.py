"""--distributed: what Slurm and Open MPI tell their processes is understood."""

import socket

import pytest

from tests.integration import small_runs

WHO = """
import jax
from fcnjax import hosts
hosts.initialize()
print(hosts.gathered([jax.process_index(), hosts.count()]))
hosts.wait("end")
"""


def _slurm(index, number):
  return {
    "SLURM_JOB_ID": str(number),
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": str(index),
    "SLURM_LOCALID": str(index),
  }


def _open_mpi(index, number):
  return {
    "OMPI_MCA_orte_hnp_uri": f"{number * 2**12}.0;tcp://127.0.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": str(index),
    "OMPI_COMM_WORLD_LOCAL_RANK": str(index),
  }


def _free_number():
  """A job's number, of which JAX makes a port."""
  for number in range(2**12):
    with socket.socket() as tried:
      try:
        tried.bind(("localhost", 2**16 - 2**12 + number))
      except OSError:
        continue
      return number
  raise AssertionError("no port is free")


@pytest.mark.parametrize("launcher", [_slurm, _open_mpi])
def test_two_processes_of_a_launcher_find_each_other(launcher):
  number = _free_number()
  processes = [
    small_runs.start("-c", WHO, **launcher(index, number)) for index in range(2)
  ]
  for process in processes:
    said, error = process.communicate(timeout=100)
    assert process.returncode == 0, error
    assert said.splitlines()[-1] == "[[0, 2], [1, 2]]"


@pytest.mark.parametrize("index", [0, 1])
def test_where_the_others_never_come_it_ends_with_a_line(index):
  words = f"coordinator='localhost:{_free_number() + 2**16 - 2**12}'"
  script = f"""
from fcnjax import hosts
hosts.START = 2
hosts.initialize({words}, processes=2, process={index})
"""
  process = small_runs.start("-c", script)
  _, error = process.communicate(timeout=60)
  assert process.returncode == 1, error
  assert error.splitlines()[-1].startswith("fcnjax: ")
  assert "was never started" in error.splitlines()[-1]
