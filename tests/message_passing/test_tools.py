"""The shared tools: files, run folders, tables, commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from message_passing.tools import commands
from message_passing.tools.files import (
    content_hash,
    read_json,
    read_npz,
    read_table,
    write_atomically,
    write_json,
    write_npz,
    write_table,
)
from message_passing.tools.run_folder import RunFolder, RunInUseError, measured_once
from message_passing.tools.tables import means, to_markdown, with_error


@pytest.mark.parametrize(
    ("read", "content"),
    [
        *((read, content) for read in (read_json, read_npz, read_table) for content in (None, b"")),
        (read_json, b"[1, 2"),
        (read_npz, b"PK\x03\x04 half of"),
        (read_npz, b"no archive at all"),
        (read_table, b'a,b\n1,"2'),
    ],
)
def test_damaged_files_are_named(tmp_path, read, content):
    path = tmp_path / "result"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"result (does not exist|cannot be read)") as raised:
        read(path)
    assert "pickle" not in str(raised.value)


def test_json_that_is_no_mapping_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json holds a list; a mapping was expected"):
        read_json(tmp_path / "config.json")


def test_files_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"a\.json cannot be written"):
        write_json(tmp_path / "file" / "a.json", {})

    def full(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"b\.npz cannot be written .*No space left"):
        write_atomically(tmp_path / "b.npz", full)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_hashes_are_those_of_the_content(tmp_path):
    array = np.arange(6.0)
    assert content_hash(array) == content_hash(array.copy())
    assert content_hash(array) != content_hash(array.reshape(2, 3))
    assert content_hash(array) != content_hash(array.astype(np.float32))
    one, other = write_npz(tmp_path / "a.npz", x=array), tmp_path / "b.npz"
    other.write_bytes(one.read_bytes())
    assert content_hash(one) == content_hash(other) != content_hash("a.npz")


def test_a_measurement_is_kept_for_its_options_and_its_content(tmp_path):
    network, file, calls = tmp_path / "net.pt", tmp_path / "flatness.json", []

    def measure():
        calls.append(1)
        return {"value": len(calls)}

    network.write_bytes(b"weights")
    for _ in range(2):
        assert measured_once(file, {"sigma": (0.1, 0.2)}, network, measure)["value"] == 1
    network.write_bytes(b"WEIGHTS")  # same size, other content
    assert measured_once(file, {"sigma": (0.1, 0.2)}, network, measure)["value"] == 2
    assert measured_once(file, {"sigma": (0.1, 0.3)}, network, measure)["value"] == 3
    assert len(calls) == 3


def test_a_folder_belongs_to_its_settings(tmp_path):
    folder = RunFolder(tmp_path / "run", extensible=("engines",), units=("machines",))
    settings = {"size": 5, "engines": {"ep": {}}}
    folder.check(settings)
    assert not folder.path.exists()
    folder.store_config("A run", settings)
    folder.check({"size": 5, "engines": {"bp": {}}})
    with pytest.raises(ValueError, match="size is 5 there and 6 here"):
        folder.check({"size": 6, "engines": {}})
    assert folder.config()["made_by"][0]["numpy"] == np.__version__
    (folder.path / "machines").mkdir()
    (folder.path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"holds machines but no config\.json"):
        folder.check(settings)
    with folder.in_use(), pytest.raises(RunInUseError, match="is in use"), folder.in_use():
        pass


def test_means_have_their_standard_errors():
    table = pd.DataFrame(
        {"name": ["b", "b", "b", "a"], "x": [1.0, 2.0, 6.0, 4.0], "y": [1.0, np.nan, 3.0, 5.0]}
    )
    found = means(table, "name")
    assert found["name"].tolist() == ["b", "a"] and found["n"].tolist() == [3, 1]
    assert found["x"].tolist() == [3.0, 4.0] and found["y"].tolist() == [2.0, 5.0]
    assert found["x_standard_error"][0] == pytest.approx(np.sqrt(7 / 3))
    assert np.isnan(found["x_standard_error"][1]) and found["y_n"].tolist() == [2, 1]
    text = to_markdown(found, scales={"x": 100}, digits={"x": 1})
    assert "| b" in text and "300.0 ± 152.8" in text and "x_standard_error" not in text


def test_numbers_are_printed_to_the_digits_of_their_error():
    assert with_error(1.23456, 0.0123) == "1.235 ± 0.012"
    assert with_error(0.2345, 0.001, scale=100) == "23.45 ± 0.10"
    assert with_error(12.0, np.nan, digits=1) == "12.0"
    assert with_error(np.nan, 1.0) == "–"


def test_tables_are_read_back(tmp_path):
    table = pd.DataFrame({"a": [1, 2], "b": [0.1234567891, np.nan]})
    again = read_table(write_table(tmp_path / "t.csv", table))
    pd.testing.assert_frame_equal(again, table, rtol=1e-5)


PROGRAM = """
import sys, time
from dataclasses import dataclass
from message_passing.tools.commands import run_command
from message_passing.tools.parallel import run_tasks
from tqdm import tqdm

@dataclass(frozen=True)
class Config:
    \"\"\"Wait.\"\"\"
    seconds: float = 60
    fail: bool = False
    pipe: bool = False

def wait(seconds, _):
    tqdm([], disable=True)  # as an engine in a worker does
    sys.stdout.write("working\\n")
    sys.stdout.flush()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass

def run(config):
    if config.fail:
        raise ValueError("x is 1; 2 was expected.")
    if config.pipe:
        raise BrokenPipeError("the pipe to a worker broke")
    list(run_tasks(wait, [0, 1], common=(config.seconds,), workers=2))

if __name__ == "__main__":
    run_command("test", "A test.", {"wait": (Config, run), "other": (Config, run)})
"""


@pytest.fixture
def program(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])
    environment = {**os.environ, "PYTHONPATH": path}

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, str(tmp_path / "program.py"), *arguments], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # A test run in the background of a script ignores Ctrl-C, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip

    return start


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, commands.INTERRUPTED), (signal.SIGTERM, commands.TERMINATED),
     (signal.SIGKILL, -signal.SIGKILL)],
)  # fmt: skip
def test_no_worker_outlives_its_parent(program, number, code):
    process = program("wait")
    assert process.stdout.readline() == "working\n"
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)  # returns once no worker holds stdout
    assert process.returncode == code
    if number != signal.SIGKILL:
        assert errors.strip().endswith("The same command continues from what is stored.")
        assert "Traceback" not in errors
    end = time.monotonic() + 10
    while any(w.is_running() and w.status() != psutil.STATUS_ZOMBIE for w in workers):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_errors_help_and_version(program):
    process = program("wait", "--fail")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and errors == "Error: x is 1; 2 was expected.\n"
    process = program("wait", "--pipe")  # not the pipe of the output
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and errors == "Error: the pipe to a worker broke\n"
    process = program("--version")
    assert process.communicate(timeout=60)[0].startswith("wide-flat-minima ")
    process = program("wait", "--seconds")
    process.communicate(timeout=60)
    assert process.returncode == 2
    process = program("--help")
    process.stdout.close()  # as head does
    assert process.stderr.read() == "" and process.wait(timeout=60) == commands.NO_READER
