"""Several devices and several processes compute what one device computes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import devices
from experiments.checkpoints import Checkpoints

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "experiments" / "small_run.py"
TOLERANCE = 1e-5  # of float32, after 30 steps


def test_replicated_arrays_are_the_same():
    mesh = devices.mesh()
    tree = {"array": np.arange(6.0).reshape(2, 3), "key": jax.random.key(1), "number": np.int32(3)}
    placed = devices.replicate(tree, mesh)
    np.testing.assert_array_equal(placed["array"], tree["array"])
    assert placed["key"] == tree["key"] and placed["number"] == 3
    assert all(leaf.sharding.mesh == mesh for leaf in jax.tree.leaves(placed))


def test_donating_copies_leaves_the_original(unhooked):
    array = jnp.ones((64, 64))
    jax.jit(lambda x: x + 1, donate_argnums=0)(devices.replicate(array, devices.mesh()))
    np.testing.assert_array_equal(array, np.ones((64, 64)))


def test_one_process_agrees_with_itself():
    assert devices.is_main()
    assert devices.agreed(True) and not devices.agreed(False)
    assert devices.from_main(lambda: {"any": ["thing"]}) == {"any": ["thing"]}


def test_without_a_coordinator_there_is_one_process(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    with devices.joined():
        assert jax.process_count() == 1


def test_hosts_from_options_and_environment(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "there:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
    monkeypatch.setenv("JAX_PROCESS_ID", "3")
    options = {"coordinator_address": "there:1", "num_processes": 4, "process_id": 3}
    assert devices._options(devices.Hosts()) == options
    changed = devices._options(devices.Hosts("here:2", process=0))
    assert changed == options | {"coordinator_address": "here:2", "process_id": 0}
    assert devices._options(devices.Hosts("auto")) == {}


def test_variables_are_numbers(monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(ValueError, match=r"JAX_NUM_PROCESSES \(='two'\) must be an integer"):
        devices._options(devices.Hosts("here:1", process=0))


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        (("here:1",), r"coordinator \(=here:1\) needs processes as well; .*JAX_NUM_PROCESSES"),
        (("here:1", 2), r"coordinator \(=here:1\) needs process as well; .*JAX_PROCESS_ID"),
        ((None, 2, 1), r"processes \(=2\) and process \(=1\) need a coordinator"),
        (("here:1", 2, 2), r"process \(=2\) must be at least 0 and below processes \(=2\)"),
    ],
)
def test_hosts_named_in_part(monkeypatch, hosts, message):
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=message), devices.joined(devices.Hosts(*hosts)):
        pass


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    """Train in one process and return what it leaves."""

    def run(*options):
        folder = tmp_path_factory.mktemp("run")
        finish([start(cache, folder, *options)])
        return dict(np.load(folder / "final.npz"))

    return run


@pytest.fixture(scope="module")
def alone(run):
    """What one device gives."""
    return run()


def start(cache, folder, *options):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.Popen(
        [sys.executable, SCRIPT, folder, *map(str, options)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_two(cache, folder, *options):
    """Start two processes with two devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = ("--devices", 2, "--coordinator", address, "--processes", 2)
    return [start(cache, folder, *options, *together, "--process", i) for i in range(2)]


def finish(processes):
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), outputs


def difference(a, b):
    """Return the largest difference of any number in two trainings."""
    assert set(a) == set(b)
    return max(np.abs(a[name] - b[name]).max() for name in a)


@pytest.mark.slow
def test_eight_devices_are_as_good_as_one(run, alone):
    """Losses, the network's statistics, and evaluation, whose last batch is not full."""
    eight = run("--devices", 8)
    assert len(eight["loss"]) == 5 and eight["loss"][-1] < 0.5 * eight["loss"][0]
    assert difference(eight, alone) < TOLERANCE
    np.testing.assert_array_equal(eight["again"] * 52, np.round(eight["again"] * 52))


@pytest.mark.slow
def test_statistics_of_each_device_alone_show(run, alone):
    """Negative control: a norm that sees an eighth of the batch, on one device."""
    apart = run("--parts", 8)
    assert np.abs(apart["loss"] - alone["loss"]).max() > 100 * TOLERANCE


@pytest.mark.slow
def test_two_processes_are_as_good_as_one(cache, alone, tmp_path):
    finish(start_two(cache, tmp_path))
    assert difference(dict(np.load(tmp_path / "final.npz")), alone) < TOLERANCE
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len(rows) == 6  # one process writes them


@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 1])
def test_dead_worker_ends_the_job_which_goes_on(run, cache, tmp_path, dies):
    folder, options = tmp_path / "run", ("--epochs", 30)
    processes = start_two(cache, folder, *options)
    while not Checkpoints(folder).latest():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)
    processes[dies].kill()
    killed = time.perf_counter()
    output, _ = processes[1 - dies].communicate(timeout=100)
    assert time.perf_counter() - killed < 60
    assert processes[1 - dies].returncode != 0, output
    processes[dies].communicate()
    assert processes[dies].returncode == -signal.SIGKILL
    assert 0 < Checkpoints(folder).latest() < 180
    expected = run(*options)
    if dies:
        finish(start_two(cache, folder, *options, "--resume"))
    else:
        finish([start(cache, folder, *options, "--resume")])
    assert difference(dict(np.load(folder / "final.npz")), expected) < 10 * TOLERANCE


@pytest.mark.slow
def test_ctrl_c_in_one_process_stops_all(cache, tmp_path):
    processes = start_two(cache, tmp_path, "--epochs", 60)
    while not Checkpoints(tmp_path).latest():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGINT)
    outputs = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [130, 130], outputs
    assert 0 < Checkpoints(tmp_path).latest() < 360
