"""2,000 damaged files: told in words, or read; never a hang, never a crash."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np

from tests.faults import mutations

ROOT = pathlib.Path(__file__).parents[2]


def test_two_thousand_damaged_files(tmp_path):
  environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    [sys.executable, "-W", "ignore", "-m", "tests.faults.damaged", tmp_path],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  counts = json.loads(done.stdout.splitlines()[-1])
  assert counts.pop("faults") == []
  bombs = counts.pop("bombs")
  assert bombs["refused"] >= 20
  assert sum(sum(found.values()) for found in counts.values()) == 2000
  # What has a checksum was never another, and most damage was noticed.
  for kind in ("checkpoints", "caches", "shards", "fcnjax.json"):
    assert "other" not in counts[kind]
  for kind, share in (("checkpoints", 9), ("fcnjax.json", 9), ("shards", 2)):
    # Shards are padded.
    assert counts[kind]["refused"] > share * counts[kind].get("same", 0)
  assert counts["images"]["refused"] > 100


def test_mutations_are_other_bytes_and_the_same_for_a_seed():
  data = b'{"step": 10}' * 9
  one, other = (
    [mutations.mutated(data, random) for _ in range(200)]
    for random in (np.random.default_rng(3), np.random.default_rng(3))
  )
  assert one == other
  assert data not in one
  assert {len(d) < len(data) for d in one} == {True, False}
  assert {len(d) > len(data) for d in one} == {True, False}
