from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bundles import TRIALS, ignore, make_bundle, network
from pydantic import TypeAdapter

from hw_profiles.connections import ssh as ssh_module
from hw_profiles.connections.adb import Adb
from hw_profiles.connections.base import NotMeasuredError
from hw_profiles.connections.external_tool import Command, Tool
from hw_profiles.connections.latency_text import LatencyPattern, find_latency_ms
from hw_profiles.connections.local import Local
from hw_profiles.connections.marked import remote_output
from hw_profiles.connections.offline_bundle import OfflineBundle, write_folder
from hw_profiles.connections.process import ProcessError
from hw_profiles.connections.registry import AnyConnection
from hw_profiles.connections.ssh import Ssh, SshShell
from hw_profiles.measuring import session
from hw_profiles.measuring.bundle import BundleContent, BundledModel, read_job, write_bundle
from hw_profiles.measuring.results import read_results
from hw_profiles.measuring.runner.bundle_files import JOB, RESULTS
from hw_profiles.measuring.runner.bundle_files import TRIALS as JOURNAL
from hw_profiles.run_settings import RunSettings
from nas.devices.device_graphs import TimedGraph, bundled


def networks(folder: Path) -> Path:
    """A bundle of two whole networks, the second measured twice."""
    graphs = [TimedGraph("a", network(2), 1, alone=True), TimedGraph("b", network(8), 2, alone=True)]
    models, weights = bundled(graphs, RunSettings(), np.random.default_rng(0))
    write_bundle(folder, BundleContent(models, RunSettings(), weights))
    return folder


@pytest.mark.parametrize(
    "connection",
    [
        Local(),
        Ssh(host="pi@box", port=22, options=("Compression=yes",)),
        Adb(serial="x", tool=Tool(template="perf {onnx}", pattern=LatencyPattern(regex="(.)", unit="us"))),
        OfflineBundle(whole=True),
        Command(tool=Tool(template="tool {onnx}")),
    ],
    ids=lambda connection: connection.kind,
)
def test_profile_keeps_the_way_to_the_device(connection: object) -> None:
    adapter: TypeAdapter[object] = TypeAdapter(AnyConnection)
    assert adapter.validate_json(adapter.dump_json(connection)) == connection


# ---------------------------------------------------------------------- tools


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("[I] Latency: min = 0.17 ms, max = 0.24 ms, mean = 0.184 ms, median = 0.179 ms, p = 1 ms", 0.179),
        ("[ INFO ] Latency:\n[ INFO ]    Median:        9.34 ms\n[ INFO ]    Average:  9.45 ms", 9.34),
        ("Average inference time cost: 58.8 ms\nP50 Latency: 0.0587 s", 58.7),
        ("P50 Latency is 0.0587 sec", 58.7),
        ("Inference timings in us: Init: 855, Warmup (avg): 34825.1, Inference (avg): 33209.4", 33.2094),
        ("Average inference time cost: 144.871 ms", 144.871),
        ("latency 1.5e3 us", 1.5),
    ],
)
def test_latency_in_what_usual_tools_print(text: str, ms: float) -> None:
    assert find_latency_ms(text, None) == pytest.approx(ms)


@pytest.mark.parametrize("text", ["", "done", "latency: none", "median: 0 ms", "latency 5 parsecs"])
def test_no_latency(text: str) -> None:
    assert find_latency_ms(text, None) is None


def test_pattern_of_the_user() -> None:
    pattern = LatencyPattern(regex=r"t=(\d+)", unit="us")
    assert find_latency_ms("median: 3 ms t=2500", pattern) == 2.5
    with pytest.raises(ValueError, match="must have a group around the number"):
        LatencyPattern(regex="t=[0-9]+")
    with pytest.raises(ValueError, match="is not a regular expression"):
        LatencyPattern(regex="(")
    with pytest.raises(ValueError, match=r"unit must be one of \['us'.*got 'h'"):
        LatencyPattern(regex="(.)", unit="h")


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{text}", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_tool_measures_whole_networks_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    bundle, calls = networks(tmp_path / "bundle"), tmp_path / "calls"
    tool = script(
        tmp_path / "tool",
        "import os, sys\n"
        f"calls = open({str(calls)!r}, 'a+'); calls.write(sys.argv[1] + '\\n'); calls.seek(0)\n"
        "assert os.path.getsize(sys.argv[1]) > 0\n"
        "assert os.path.exists(os.path.join(os.path.dirname(sys.argv[1]), 'weights.bin'))\n"
        "n = len(calls.readlines())\n"
        "sys.exit('no memory') if n == 2 or 10 <= n < 20 else print(f'median: {n} ms')\n",
    )
    connection = Command(tool=Tool(template=f"{tool} {{onnx}}", retries=1))
    results = session.measure(connection, bundle, ignore)
    # calls 1, 3, 4 succeeded, call 2 was made again
    assert sorted(ms for trials in results.trials_ms.values() for ms in trials) == [1, 3, 4]
    assert len(results.alone["b"]) == 2
    assert len(calls.read_text().splitlines()) == 4
    assert session.measure(connection, bundle, ignore) == results  # nothing is measured twice
    connection.forget(bundle)
    calls.write_text("x\n" * 8)
    with pytest.raises(ValueError, match=r"tool .*onnx` failed 2 times: no memory"):
        session.measure(connection, bundle, ignore)
    assert len((bundle / JOURNAL).read_text().splitlines()) == 1  # call 9 is kept
    calls.write_text("x\n" * 30)
    assert session.measure(connection, bundle, ignore).trials_ms["a"] != []
    assert len(calls.read_text().splitlines()) == 32


def test_tool_continues_with_the_other_models_if_the_job_allows_failures(tmp_path: Path) -> None:
    tool = script(
        tmp_path / "tool",
        "import sys; sys.exit('no memory') if 'b.onnx' in sys.argv[1] else print('median: 2 ms')",
    )
    bundle = tmp_path / "bundle"
    models = [BundledModel(name, b"model", 2, alone=True) for name in ("a", "b")]
    write_bundle(bundle, BundleContent(models, RunSettings(), keep_going=True))
    results = session.measure(Command(tool=Tool(template=f"{tool} {{onnx}}", retries=0)), bundle, ignore)
    assert results.trials_ms == {"a": [2.0, 2.0]}
    assert results.failed["b"].endswith("failed 1 times: no memory")


def test_tool_that_prints_no_latency(tmp_path: Path) -> None:
    tool = script(tmp_path / "tool", "print('all is well')")
    connection = Command(tool=Tool(template=f"{tool} {{onnx}}", retries=0))
    with pytest.raises(ValueError, match=r"failed 1 times: there is no latency .* 'all is well'"):
        session.measure(connection, networks(tmp_path / "bundle"), ignore)


def test_tool_that_is_not_there(tmp_path: Path) -> None:
    connection = Command(tool=Tool(template="no_such_tool {onnx}"))
    with pytest.raises(ValueError, match="cannot find the program 'no_such_tool'"):
        session.measure(connection, networks(tmp_path / "bundle"), ignore)


def test_command_without_a_place_for_the_model() -> None:
    with pytest.raises(ValueError, match=r"must contain \{onnx\} in the place of the model, got 'trtexec'"):
        Tool(template="trtexec")


# ---------------------------------------------------------------------- adb

ADB = """
import os, shutil, subprocess, sys
log = open(os.environ["ADB_LOG"], "a"); log.write(repr(sys.argv[1:]) + "\\n"); log.close()
if os.environ.get("ADB_FAILS"): sys.exit(os.environ["ADB_FAILS"])
words = sys.argv[3:] if sys.argv[1] == "-s" else sys.argv[1:]
if words[0] == "shell":
    sys.exit(subprocess.run(["sh", "-c", words[1]]).returncode)
assert words[0] == "push"
for path in words[1:-1]: shutil.copy(path, words[-1])
"""


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for adb whose device is this machine; returns its log."""
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "adb", ADB)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ADB_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def test_adb_with_python(adb: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    there = tmp_path / "phone" / read_job(bundle).id[:16]
    connection = Adb(serial="R58", python=sys.executable, folder=str(tmp_path / "phone"))
    description = connection.describe()
    assert description
    assert description["runtime"] == "onnxruntime"
    results = session.measure(connection, bundle, ignore)
    assert list(results.outputs) == ["net"]
    calls = [ast.literal_eval(line) for line in adb.read_text(encoding="utf-8").splitlines()]
    assert {tuple(call[:2]) for call in calls} == {("-s", "R58")}
    pushed = [call[3:] for call in calls if call[2] == "push"]
    assert pushed[0][-1] == f"{there}/models/"
    assert pushed[-1] == [str(bundle / JOB), f"{there}/"]
    assert not there.exists()


def test_adb_with_a_tool(adb: Path, tmp_path: Path) -> None:
    bundle, folder = networks(tmp_path / "bundle"), tmp_path / "phone"
    perf = script(
        tmp_path / "perf",
        "import sys; assert open(sys.argv[1]).close() is None; print('P50 Latency: 0.002 s')",
    )
    connection = Adb(tool=Tool(template=f"{perf} {{onnx}}"), folder=str(folder))
    assert not connection.supports_block_timing
    assert session.measure(connection, bundle, ignore).trials_ms == {"a": [2.0], "b": [2.0, 2.0]}
    called = [ast.literal_eval(line) for line in adb.read_text(encoding="utf-8").splitlines()]
    there = folder / read_job(bundle).id[:16]
    assert any(f"{perf} {there}/models/a.onnx" in call[-1] for call in called if call[0] == "shell")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("adb: no devices/emulators found", "adb finds no device; connect one"),
        ("error: device unauthorized.", "allow USB debugging on its screen"),
        ("error: more than one device/emulator", "name one with --adb SERIAL"),
        ("error: closed", "finished trials are saved; run the same command to continue"),
    ],
)
def test_adb_that_fails(
    adb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, message: str
) -> None:
    monkeypatch.setenv("ADB_FAILS", output)
    with pytest.raises(ValueError, match=message):
        Adb().measure(make_bundle(tmp_path / "bundle"), ignore)


# ---------------------------------------------------------------------- shells that print more than asked for

TALKING = r"""
import os, subprocess, sys
if "-O" in sys.argv: sys.exit()  # ssh ends the shared connection
say = lambda text: (os.write(1, text), os.write(2, text))
say(b"Welcome to b\xf6x\n3 17\nlatency: 9 ms\n" + b"box> ")
done = subprocess.run(["sh", "-c", sys.argv[-1]], stdin=sys.stdin.buffer, capture_output=True)
crlf = os.environ.get("CRLF")
for n, text in ((1, done.stdout), (2, done.stderr)):
    os.write(n, text.replace(b"\n", b"\r\n") if crlf else text)
say(b"Goodbye\n18 17\nlatency: 9 ms\n")
sys.exit(0 if crlf else done.returncode)
"""
"""Stands for ssh to a host with a banner and a farewell; with CRLF for an old adb, which loses exit codes."""


@pytest.fixture
def talking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ssh:
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "ssh", TALKING)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return Ssh(host="box", python=sys.executable, folder=str(tmp_path / "box"))


def test_banners_do_not_disturb_a_measurement(talking: Ssh, tmp_path: Path) -> None:
    description = talking.describe()
    assert description
    assert description["runtime"] == "onnxruntime"
    bundle = make_bundle(tmp_path / "bundle")
    seen: list[tuple[int, int]] = []
    results = session.measure(talking, bundle, lambda done, total: seen.append((done, total)))
    assert seen == [(n + 1, TRIALS) for n in range(TRIALS)]  # no line of a banner counts as a trial
    assert list(results.outputs) == ["net"]
    assert list((tmp_path / "box").iterdir()) == []


def test_job_that_is_there_already_is_known_behind_a_banner(talking: Ssh, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    with talking._runner() as remote:
        there = remote._folder(bundle)
        remote._push(bundle, there)
        runner_there = Path(there) / "runner.py"
        runner_there.write_text("a second push would replace this")
        remote._push(bundle, there)
    assert runner_there.read_text() == "a second push would replace this"


@pytest.mark.parametrize("crlf", ["", "yes"])
def test_error_is_the_command_s_and_no_farewell(
    talking: Ssh, monkeypatch: pytest.MonkeyPatch, crlf: str
) -> None:
    monkeypatch.setenv("CRLF", crlf)
    with talking._runner() as remote:
        wrap = remote.shell.command
    assert remote_output(wrap, "printf 'a\n\nb'") == "a\n\nb"
    assert remote_output(wrap, "cat", stdin=b"a b\n") == "a b\n"
    with pytest.raises(ProcessError) as caught:
        remote_output(wrap, "echo no memory >&2; exit 7")
    assert caught.value.exit_code == 7
    assert crlf or str(caught.value) == "no memory"


def test_windows_has_no_shared_connection_and_no_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    target = Ssh(host="box")
    assert "ControlMaster=auto" in SshShell(target, Path("s")).ssh
    monkeypatch.setattr(ssh_module, "os", SimpleNamespace(name="nt"))
    shell = SshShell(target, Path("s"))
    assert not any("Control" in word for word in shell.ssh)
    monkeypatch.setattr(subprocess, "run", None)  # there is nothing to close
    shell.close()
    tool = Tool(template='"C:\\Program Files\\perf.exe" -m C:\\models\\{onnx}')
    words = ["C:\\Program Files\\perf.exe", "-m", "C:\\models\\a.onnx"]
    assert tool.words("a.onnx", posix=False) == words


# ---------------------------------------------------------------------- moved by hand


def test_bundle_is_copied_to_the_device_and_its_results_back(tmp_path: Path) -> None:
    bundle, out = make_bundle(tmp_path / "bundle"), tmp_path / "stick"
    with pytest.raises(
        NotMeasuredError, match=r"stick \(0\.\d MB\) is ready to be copied .*`python runner\.py`"
    ):
        session.measure(OfflineBundle(out=out), bundle, ignore)
    assert {path.name for path in out.iterdir()} == {"models", "images", "runner.py", "README.txt", JOB}
    subprocess.run([sys.executable, "runner.py"], cwd=out, check=True, capture_output=True)
    results = session.measure(OfflineBundle(results=out / RESULTS), bundle, ignore)
    assert len(results.trials_ms["sentinel"]) == 8
    with pytest.raises(NotMeasuredError):  # the same folder again: its trials are kept
        session.measure(OfflineBundle(out=out), bundle, ignore)
    assert (out / RESULTS).exists()


def test_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    with pytest.raises(ValueError, match="must be a new or empty folder"):
        write_folder(make_bundle(tmp_path / "bundle"), tmp_path / "photos")


def test_results_in_a_csv(tmp_path: Path) -> None:
    job = read_job(networks(tmp_path / "bundle"))
    path = tmp_path / "results.csv"
    path.write_text("model_id, latency_ms\na.onnx,1.5\nb,2\nb,3\n")
    results = read_results(path, job)
    assert results.trials_ms == {"a": [1.5], "b": [2.0, 3.0]}
    assert results.alone["b"][1].latency_ms == 3.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_id,latency_ms\na,1\n", r"a row for each of 2 models, it lacks b"),
        ("model_id,latency_ms\na,1\nb,2\nc,3\n", r"results of another bundle: this one has no c"),
        (
            "model_id,latency_ms\na,1\nb,\n",
            r"line 3: latency_ms must be a positive number such as 1\.25, which b lacks, got nan",
        ),
        ("model_id,latency_ms\na,1\nb,-2\n", r"which b lacks, got -2"),
        ("name,ms\na,1\n", r"columns model_id,latency_ms, got name,ms"),
        ("", r"results\.csv must be a table with a header, it is empty"),
    ],
)
def test_invalid_csv_of_results(tmp_path: Path, text: str, message: str) -> None:
    job = read_job(networks(tmp_path / "bundle"))
    path = tmp_path / "results.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_results(path, job)


def test_results_that_lack_trials(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    Local().measure(bundle, ignore)
    content = json.loads((bundle / RESULTS).read_text())
    content["trials_ms"]["big"].pop()
    (bundle / RESULTS).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"results\.json is incomplete, it lacks trials of big; run"):
        read_results(bundle / RESULTS, read_job(bundle))
