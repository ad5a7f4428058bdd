"""Training in several processes on this machine, with gloo."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY_YAML
from safetensors.torch import load_file

from nas.recipes import recipe
from nas.runs.files import SUPERNET
from nas.runs.run_dir import RunDir
from nas.torch_backend.elastic import ElasticBatchNorm
from nas.torch_backend.supernet import Supernet
from nas.training.checkpoint import Checkpoints
from nas.training.train import train
from search_spaces import Node
from search_spaces.operators import BatchNorm
from search_spaces.tensors import image

PLAIN_DIGITS = """
from dataclasses import replace

from nas.data.digits import load


def plain(root, split_seed):
    return replace(load(root, split_seed), augment=None)
"""

WORKER = """
import json, os, signal, sys

import torch.distributed

from nas.cli.main import main
from nas.samplers import Sandwich
from nas.training.checkpoint import Checkpoints

rank = os.environ.get("LOCAL_RANK", "0")  # the first process starts the others
all_reduce, subnets, save = torch.distributed.all_reduce, Sandwich.subnets, Checkpoints.save
sizes, seen, saved = [], [], []


def counting(x, *args, **kwargs):
    sizes.append(x.numel())
    return all_reduce(x, *args, **kwargs)


def recording(self, *args):
    archs = subnets(self, *args)
    seen.append([arch.id for arch in archs])
    if len(seen) == 4 and os.environ.get("LOST") == rank:
        os.kill(os.getpid(), signal.SIGKILL)
    return archs


def saving(self, state, step):
    saved.append(step)
    save(self, state, step)


torch.distributed.all_reduce, Sandwich.subnets, Checkpoints.save = counting, recording, saving
try:
    main()
finally:
    with open(f"rank{rank}.json", "w") as file:
        json.dump({"sizes": sizes, "subnets": seen, "saved": saved}, file)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a recipe of one step with all 897 digits: 2 processes have unequal shares."""
    (tmp_path / "tiny.yaml").write_text(TINY_YAML)
    (tmp_path / "digits_of_ours.py").write_text(PLAIN_DIGITS)
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "recipe.yaml").write_text(
        "{space: tiny.yaml, epochs: 1, data: {dataset: 'digits_of_ours:plain', batch_size: 898}, "
        "sampler: {n_random: 3}, batch_norm: {synchronized: true}, compute: {accelerator: cpu, threads: 1}}"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), **more}


@pytest.mark.slow
def test_step_of_two_processes_equals_the_step_of_one(folder: Path) -> None:
    arguments = ["train", "--config", "recipe.yaml", "--out", "two", "--set", "compute.devices=2"]
    done = subprocess.run(
        [sys.executable, "worker.py", *arguments], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained: two") == 1  # only by the first process
    train(recipe.load("recipe.yaml"), "one")
    one, two = load_file(folder / "one" / SUPERNET), load_file(folder / "two" / SUPERNET)
    before = Supernet(RunDir.open("one").space()).state_dict()
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-6, rtol=0)
    assert any((one[name] - before[name]).abs().max() > 1e-3 for name in one)  # the step changes the weights

    ranks = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0]["subnets"] == ranks[1]["subnets"]
    assert [len(subnets) for subnets in ranks[0]["subnets"]] == [5]
    n_weights = sum(weight.numel() for weight in Supernet(RunDir.open("one").space()).parameters())
    for rank in ranks:  # the moments of batch norms are small tensors
        assert [size for size in rank["sizes"] if size > n_weights / 2] == [n_weights + 2 * 5]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_run_with_a_lost_process_stops_with_a_checkpoint_of_one_rank(folder: Path, lost: int) -> None:
    arguments = ["train", "--config", "recipe.yaml", "--out", "run", "--set", "data.batch_size=126"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in range(3):  # as torchrun starts them
        variables = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3"}
        variables |= {"GROUP_WORLD_SIZE": "1", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
        variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOST": str(lost)}
        command = [sys.executable, "worker.py", *arguments]
        processes.append(
            subprocess.Popen(command, env=environment(**variables), stderr=subprocess.PIPE, text=True)
        )
    errors = [process.communicate()[1] for process in processes]
    survivors = [rank for rank in range(3) if rank != lost]
    assert processes[lost].returncode == -signal.SIGKILL
    for rank in survivors:
        assert processes[rank].returncode == 2, errors[rank]
        assert errors[rank].splitlines()[-1].startswith("error: another process of the run has ended")
    saved = {rank: json.loads((folder / f"rank{rank}.json").read_text())["saved"] for rank in survivors}
    (writer,) = [rank for rank in survivors if saved[rank]]
    assert saved[writer] == [3]
    assert errors[writer].splitlines()[-1].endswith("step_000000003.pt; continue with --resume")
    run = RunDir.open("run")
    assert [path.name for path in Checkpoints(run).paths()] == ["step_000000003.pt"]
    seen: list[int] = []
    resumed = recipe.load("recipe.yaml", ["data.batch_size=126"])
    train(resumed, "run", resume=True, progress=lambda what, done, total: seen.append(done))
    assert seen == [4, 5, 6, 7]  # of 7 batches of 126 in 897 images


def test_batch_size_must_be_a_multiple_of_the_processes(folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"batch_size must be a multiple of the number of processes .*, 3, got"
    ):
        train(recipe.load("recipe.yaml", ["compute.devices=3"]), "run")
    assert not (folder / "run").exists()


@pytest.mark.parametrize("channels", [1, 5])
def test_synchronized_batch_norm_equals_torch(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, channels, 3, 3, generator=generator, dtype=torch.float32) * 2 + 3
    outputs, gradients = [], []
    for mean_over_processes in (None, lambda means: means):  # one process: its means are the means of all
        node = Node(BatchNorm(), "norm", "b", (-1,), (image(6, 3),))
        norm = ElasticBatchNorm(node, dict.fromkeys(node.parameters, (6,))).train()
        norm.reset(generator)
        norm.mean_over_processes = mean_over_processes
        images = x.clone().requires_grad_()
        outputs.append(norm(node, [images]))
        (outputs[-1] ** 3).sum().backward()
        assert images.grad is not None
        assert norm.weight.grad is not None
        gradients.append((images.grad, norm.weight.grad))
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-4)


def test_synchronized_moments_count_each_image_once() -> None:
    """Of one process with 1 image and another with 3, whose shares of the three means are given here."""
    x = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0)) * 2 + 3
    mine, others = x[:1], x[1:]
    centred = others - x.mean((0, 2, 3))[:, None, None]
    # there are 2 images per process on average, so the other process counts 3 / 2
    shares = iter([torch.tensor(3.0), 1.5 * others.mean((0, 2, 3)), 1.5 * centred.square().mean((0, 2, 3))])
    node = Node(BatchNorm(), "norm", "b", (-1,), (image(2, 3),))
    norm = ElasticBatchNorm(node, dict.fromkeys(node.parameters, (2,))).train()
    norm.reset(torch.Generator())
    norm.mean_over_processes = lambda share: (share + next(shares)) / 2
    expected = torch.nn.functional.batch_norm(x, None, None, training=True, eps=BatchNorm().eps)
    torch.testing.assert_close(norm(node, [mine]), expected[:1])
