import argparse
import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
from published import agree, images, save

from nas.importing.foreign_checkpoint import read_state_dicts
from nas.importing.importers import has_statistics, load_supernet
from nas.importing.published_names import canonical
from nas.notation.attentivenas import arch_to_attentivenas
from nas.notation.ofa import arch_from_ofa, arch_to_ofa
from nas.torch_backend.supernet import Supernet

OFA = sorted(published.OFA_CHANNELS)


# ---------------------------------------------------------------------- logits


def load_attentivenas(path: Path) -> Supernet:
    return load_supernet("attentivenas", path, "attentivenas")


def test_states_have_the_published_number_of_tensors() -> None:
    counts = {name: len(published.ofa_state(name)) for name in OFA}
    assert counts == {"ofa-mbv3-w1.0": 475, "ofa-mbv3-w1.2": 475, "ofa-proxyless-w1.3": 446}
    state = published.attentivenas_state()
    norms = sum(name.endswith("running_mean") for name in state)
    # each batch norm has two more sets of mean, variance and count, which are not used
    assert len(state) + norms * 2 * 3 == 1468


@pytest.mark.parametrize("name", [OFA[0], *(pytest.param(n, marks=pytest.mark.slow) for n in OFA[1:])])
def test_logits_of_an_imported_ofa_supernet(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    state = published.ofa_state(name)
    supernet = load_supernet("ofa", save(tmp_path / "ofa.pt", state), name)
    assert not supernet.training
    assert has_statistics(supernet)
    space = supernet.space
    for arch in [space.smallest, space.largest, *space.decode(space.sample(rng, 2))]:
        notation = arch_to_ofa(space, arch)
        for size in (128, 160):
            arch = arch_from_ofa(space, notation | {"r": size})
            x = images(1, size)
            with torch.no_grad():
                agree(supernet(x, arch), published.ofa_forward(name, state, notation, x))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_rounding_equals_that_of_the_published_code(seed: int, tmp_path: Path) -> None:
    # With He's weights but other statistics, activations grow through the gates of squeeze-and-excitation
    # until float32 differs from float64 by a percent. Only the same order of summation gives equal results.
    state = published.ofa_state("ofa-mbv3-w1.0", seed, gain=2)
    supernet = load_supernet("ofa", save(tmp_path / "ofa.pt", state), "ofa-mbv3-w1.0")
    notation = {"ks": [7] * 20, "e": [6] * 20, "d": [4] * 5, "r": [128]}
    x = images(2, 128)
    with torch.no_grad():
        ours = supernet(x, arch_from_ofa(supernet.space, notation))
        theirs = published.ofa_forward("ofa-mbv3-w1.0", state, notation, x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.slow
def test_logits_of_an_imported_attentivenas_supernet(tmp_path: Path, rng: np.random.Generator) -> None:
    state = published.attentivenas_state()
    supernet = load_attentivenas(save(tmp_path / "attentivenas.pt", state))
    assert not supernet.training
    assert has_statistics(supernet)
    space = supernet.space
    for arch in [space.smallest, space.largest, *space.decode(space.sample(rng, 2))]:
        for size in (192, 150):
            x = images(1, size)
            with torch.no_grad():
                agree(
                    supernet(x, arch),
                    published.attentivenas_forward(state, arch_to_attentivenas(space, arch), x),
                )


# ---------------------------------------------------------------------- key spellings


def single_level(name: str) -> str:
    return name.replace(".bn.bn.", ".bn.").replace(".conv.conv.weight", ".conv.weight")


def double_level(name: str) -> str:
    name = re.sub(r"(?<!bn)\.bn\.(?!bn)", ".bn.bn.", name).replace(".linear.", ".linear.linear.")
    return re.sub(r"(?<!conv)\.conv\.weight", ".conv.conv.weight", name)


def old_class(name: str) -> str:
    return re.sub(r"^(blocks\.\d+)\.conv\.", r"\1.mobile_inverted_conv.", name)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "single level": single_level,
    "double level": double_level,
    "old class": old_class,
    "old class, single level": lambda name: old_class(single_level(name)),
    "distributed": lambda name: f"module.{name}",
}


@pytest.mark.slow
def test_all_versions_of_names_are_read(tmp_path: Path) -> None:
    state = published.ofa_state("ofa-mbv3-w1.0")
    expected = load_supernet("ofa", save(tmp_path / "new.pt", state), "ofa-mbv3-w1.0").state_dict()
    for spelling, respell in SPELLINGS.items():
        renamed = {respell(name): tensor for name, tensor in state.items()}
        assert renamed.keys() != state.keys()
        assert len(renamed) == len(state)
        loaded = load_supernet("ofa", save(tmp_path / "old.pt", renamed), "ofa-mbv3-w1.0").state_dict()
        assert all(torch.equal(loaded[name], expected[name]) for name in expected), spelling
    torch.save(state, tmp_path / "bare.pt")  # without the key state_dict
    loaded = load_supernet("ofa", tmp_path / "bare.pt", "ofa-mbv3-w1.0").state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_unused_tensors_are_ignored(tmp_path: Path) -> None:
    state = published.attentivenas_state()
    plain = load_attentivenas(save(tmp_path / "plain.pt", state)).state_dict()
    tracking = {
        re.sub(r"running_mean$", f"bn_tracking.{i}.running_mean", name): torch.full_like(tensor, 9)
        for name, tensor in state.items()
        if name.endswith("running_mean")
        for i in range(2)
    }
    loaded = load_supernet(
        "attentivenas", save(tmp_path / "tracking.pt", state | tracking), "attentivenas"
    ).state_dict()
    assert tracking
    assert all(torch.equal(loaded[name], plain[name]) for name in plain)


@pytest.mark.slow
def test_missing_running_statistics_are_detected(tmp_path: Path) -> None:
    state = published.attentivenas_state(trained_statistics=False)
    assert not has_statistics(load_attentivenas(save(tmp_path / "fresh.pt", state)))
    state["module.blocks.7.mobile_inverted_conv.point_linear.bn.bn.running_mean"][3] = 0.1
    assert has_statistics(load_attentivenas(save(tmp_path / "updated.pt", state)))


@pytest.mark.slow
def test_half_precision_is_read(tmp_path: Path) -> None:
    state = {
        name: t.half() if t.is_floating_point() else t for name, t in published.ofa_state(OFA[0]).items()
    }
    supernet = load_supernet("ofa", save(tmp_path / "half.pt", state), OFA[0])
    assert {tensor.dtype for tensor in supernet.state_dict().values()} == {torch.float32}


# ---------------------------------------------------------------------- tensors that do not match


def test_error_lists_all_tensors_that_do_not_match(tmp_path: Path) -> None:
    state = published.ofa_state("ofa-mbv3-w1.0")
    del state["blocks.3.conv.depth_conv.bn.bn.running_var"]
    del state["classifier.linear.bias"]
    state["blocks.5.conv.point_linear.conv.conv.weight"] = torch.zeros(40, 100, 1, 1)
    state["blocks.21.conv.point_linear.conv.conv.weight"] = torch.zeros(1)
    state["extra"] = torch.zeros(1)
    with pytest.raises(ValueError, match="2 missing") as error:
        load_supernet("ofa", save(tmp_path / "x.pt", state), "ofa-mbv3-w1.0")
    message = str(error.value)
    for part in (
        "x.pt",
        "2 missing (blocks.3.conv.depth_conv.bn.running_var, classifier.linear.bias)",
        "2 surplus (blocks.21.conv.point_linear.conv.conv.weight, extra)",
        "1 of another shape (blocks.5.conv.point_linear.conv.conv.weight (40, 100, 1, 1) instead of (40, 144",
    ):
        assert part in message


@pytest.mark.slow
def test_checkpoint_of_another_space_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "w1.2.pt", published.ofa_state("ofa-mbv3-w1.2"))
    with pytest.raises(ValueError, match=r"does not match: \d+ of another shape"):
        load_supernet("ofa", path, "ofa-mbv3-w1.0")
    with pytest.raises(ValueError, match=r"missing.*surplus"):
        load_attentivenas(path)
    with pytest.raises(ValueError, match=r"must be one of \['ofa-mbv3-w1.0'.*got 'bignas'"):
        load_supernet("ofa", path, "bignas")


@pytest.mark.slow
def test_duplicate_tensor_is_surplus(tmp_path: Path) -> None:
    state = published.ofa_state("ofa-mbv3-w1.0")
    state["module.classifier.linear.bias"] = state["classifier.linear.bias"] + 1
    with pytest.raises(ValueError, match=r"1 surplus \(module.classifier.linear.bias\)"):
        load_supernet("ofa", save(tmp_path / "x.pt", state), "ofa-mbv3-w1.0")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "module.blocks.1.mobile_inverted_conv.depth_conv.conv.conv.weight",
            "blocks.1.conv.depth_conv.conv.weight",
        ),
        ("blocks.1.conv.depth_conv.bn.bn.bias", "blocks.1.conv.depth_conv.bn.bias"),
        ("input_stem.1.conv.conv.conv.weight", "input_stem.1.conv.weight"),
        ("classifier.linear.linear.bias", "classifier.linear.bias"),
        ("blocks.1.conv.depth_conv.se.fc.reduce.weight", "blocks.1.conv.depth_conv.se.fc.reduce.weight"),
    ],
)
def test_canonical_names(name: str, expected: str) -> None:
    assert canonical(name) == expected == canonical(expected)


# ---------------------------------------------------------------------- reading without executing


class Hostile:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


class Options:
    """A class of another tool."""

    def __init__(self) -> None:
        self.learning_rate = 0.1


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_other_pickled_objects_are_inert(zipped: bool, tmp_path: Path) -> None:
    state = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}
    extras = {
        "args": argparse.Namespace(a=1, options=Options()),
        "hostile": [
            Hostile(tmp_path / "executed"),
            {1, 2},
            np.float64(3),
            torch.device("cpu"),
            torch.Size([1]),
        ],
        "epoch": 3,
    }
    path = tmp_path / "x.pt"
    torch.save({**extras, "state_dict": state}, path, _use_new_zipfile_serialization=zipped)
    (tensors,) = read_state_dicts(path).values()
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], state[name]) for name in state)
    assert not (tmp_path / "executed").exists()
    pickle.loads(pickle.dumps(Hostile(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()  # unpickling executes the code


def test_plain_pickle_is_not_executed(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "executed")))
    with pytest.raises(ValueError, match="truncated or not a checkpoint"):
        read_state_dicts(path)
    assert not (tmp_path / "executed").exists()


def test_malicious_tensor_is_ignored(tmp_path: Path) -> None:
    state = published.ofa_state("ofa-mbv3-w1.0") | {"classifier.linear.bias": Hostile(tmp_path / "executed")}
    with pytest.raises(ValueError, match=r"1 missing \(classifier.linear.bias\)"):
        load_supernet("ofa", save(tmp_path / "x.pt", state), "ofa-mbv3-w1.0")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_truncated_files_are_errors(zipped: bool, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    state = {"state_dict": {"w": torch.arange(600.0)}, "args": Options()}
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    content, path = buffer.getvalue(), tmp_path / "x.pt"
    for length in range(0, len(content) - 1, max(1, len(content) // 60)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"x\.pt"):
            read_state_dicts(path)


def test_other_files_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ValueError, match="must contain a dict of tensors"):
        read_state_dicts(path)
    torch.save({"state_dict": {"a": 1}}, path)
    with pytest.raises(ValueError, match="must contain a dict of tensors"):
        read_state_dicts(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/constants.pkl", b"")
    with pytest.raises(ValueError, match="TorchScript"):
        read_state_dicts(path)
    with pytest.raises(ValueError, match="cannot read the checkpoint"):
        read_state_dicts(tmp_path / "none.pt")
