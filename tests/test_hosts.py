"""Who holds what of a run of several processes; real ones: integration/."""

import jax
import numpy as np
import pytest

from fcnjax import errors, hosts
from fcnjax.training import sharding


@pytest.fixture
def process(monkeypatch):
  """Pretends to be one of several."""

  def be(index, count):
    monkeypatch.setattr(jax, "process_index", lambda: index)
    monkeypatch.setattr(jax, "process_count", lambda: count)

  return be


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("number", [0, 1, 5, 12])
def test_shares_hold_every_item_once_and_merge_in_order(process, number, count):
  shares = []
  for index in range(count):
    process(index, count)
    shares.append(hosts.share(range(number)))
  assert sorted(item for own in shares for item in own) == list(range(number))
  assert max(map(len, shares)) - min(map(len, shares)) <= 1
  process(0, count)
  assert hosts.merged(shares) == list(range(number))


def test_files_of_a_process_have_its_number(process):
  process(0, 2)
  assert hosts.named("hang.txt") == "hang.txt"
  process(1, 2)
  assert hosts.named("hang.txt") == "hang_process_1.txt"


def test_one_process_alone_is_told_what_it_says():
  assert hosts.gathered(float("inf")) == [float("inf")]
  assert hosts.of_first(lambda: (1, 2)) == (1, 2)
  assert int(hosts.largest(15)) == 15
  hosts.wait("nobody")
  with pytest.raises(errors.InputError, match="wrong") as found:
    hosts.of_first(lambda: (_ for _ in ()).throw(errors.InputError("wrong")))
  assert not found.value.everywhere


@pytest.fixture
def four(monkeypatch):
  """Eight devices as if two were of each of four processes."""
  every = jax.devices()
  monkeypatch.setattr(jax, "process_count", lambda: 4)
  monkeypatch.setattr(
    jax,
    "local_devices",
    lambda process_index=0: every[2 * process_index : 2 * process_index + 2],
  )
  return every


def test_a_mesh_has_as_many_devices_of_each_process(four):
  mesh = sharding.create_mesh(batch_size=4)
  assert list(mesh.devices.flat) == four[::2]
  assert sharding.create_mesh(batch_size=16).size == 8
  assert sharding.create_mesh(batch_size=12).size == 4
  for words, message in (
    ({"batch_size": 6}, "6 images do not divide over 4 processes"),
    ({"batch_size": 8, "data": 2}, "a multiple of 4"),
    ({"batch_size": 12, "data": 8}, "does not divide over 8"),
  ):
    with pytest.raises(errors.InputError, match=message):
      sharding.create_mesh(**words)


def test_bytes_are_padded_to_a_few_lengths():
  for data in (b"", b"7", bytes(range(65)), bytes(1000)):
    row = hosts._padded(data, len(data))
    assert row[: len(data)].tobytes() == data
    assert len(row) in 2 ** np.arange(6, 11)
