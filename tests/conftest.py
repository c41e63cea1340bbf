"""What several test files need: a web server with faults on demand, finished runs, smears of discs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import numpy as np
import psutil
import pytest
import rich.progress  # noqa: F401  (imported late, it may lie where an ordinary user can't read)

from bloodcells import datasets, metrics, networks, results

TYPES = ["neutrophil", "lymphocyte", "basophil"]


@contextlib.contextmanager
def _ordinary_user():
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def ordinary_user():
    """Return a context manager that drops root's right to write anywhere, if the tests run as root."""
    return _ordinary_user


class FileServer(ThreadingHTTPServer):
    """Serves `files` (path to bytes) from memory; `faults` (path, or "*" for all, to name) spoil the answer.

    `gets` lists the paths asked for with GET. A fault is "truncated", "slow", "dropped", "wait" (the answer
    waits for a second client to ask for the same path), "trickle" (a byte now and then), "circle" (sends the
    client to where it is), a status number, or bytes to send instead.
    """

    daemon_threads = True

    def __init__(self):
        self.files, self.faults, self.gets = {}, {}, []
        self.closing = threading.Event()
        self.pair = threading.Barrier(2)
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Say nothing of clients that hang up, which the tests bring about on purpose."""


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format, *args):  # noqa: A002
        pass

    def do_HEAD(self):
        self.send_response(200 if unquote(self.path) in self.server.files else 404)
        self.end_headers()

    def do_GET(self):
        path = unquote(self.path)
        self.server.gets.append(path)
        fault = self.server.faults.get(path, self.server.faults.get("*"))
        content = self.server.files.get(path)
        if fault == "dropped":
            return
        if fault == "circle":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "wait":
            self.server.pair.wait(timeout=30)
        if isinstance(fault, int) or content is None:
            self.send_error(fault if isinstance(fault, int) else 404)
            return
        if isinstance(fault, bytes):
            content = fault
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "truncated":
            content = content[: len(content) // 2]
        if fault == "slow":
            self.wfile.write(content[:1])
            self.server.closing.wait(timeout=30)
        if fault == "trickle":
            for byte in content:
                self.wfile.write(bytes([byte]))
                if self.server.closing.wait(timeout=0.02):
                    break
            return
        self.wfile.write(content)


@pytest.fixture
def file_server():
    """Yield a running `FileServer` on a free port of this machine."""
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


# A process that has imported all, and starts another from there for each line that it reads.
LAUNCHER = """
import json, os, signal, sys, traceback
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
{script}
for line in sys.stdin:
    log, arguments = json.loads(line)
    if not (pid := os.fork()):
        status = 1
        try:
            log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            main(*arguments)
            status = 0
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Launcher:
    """Starts processes that can be killed, one at a time, from a script that defines `main`.

    What the script imports is imported once, for all of them. What a process says is in `log`.
    """

    def __init__(self, script, log):
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER.format(script=script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *arguments):
        """Have a process run `main(*arguments)`, JSON values."""
        self.process.stdin.write(json.dumps([str(self.log), arguments]) + "\n")
        self.process.stdin.flush()
        self.pid = int(self.process.stdout.readline())

    def wait(self):
        """Return the exit status of the process, or less than 0 if a signal ended it, and what it said."""
        return int(self.process.stdout.readline()), self.log.read_text()

    def run(self, *arguments):
        """Start a process and wait for it."""
        self.start(*arguments)
        return self.wait()

    def list_children(self):
        """Return the processes that the process has started itself."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def kill_when(self, is_time, seconds, *, children=False):
        """Kill the process some seconds after a condition is met, and make sure that it was at work.

        With its `children`, of which there must be some, nothing that it began goes on.
        """
        deadline = time.monotonic() + 600
        while not is_time():
            assert time.monotonic() < deadline, "the moment to kill it never came"
            time.sleep(0.002)
        time.sleep(seconds)
        others = self.list_children() if children else []
        os.kill(self.pid, signal.SIGKILL)
        for other in others:
            with contextlib.suppress(psutil.NoSuchProcess):
                other.kill()
        status, said = self.wait()
        assert status == -signal.SIGKILL, said
        assert others or not children


@pytest.fixture
def launch(tmp_path):
    """Return a function that makes a `Launcher` of a script."""
    launchers = []

    def make(script):
        launchers.append(Launcher(script, tmp_path / "log"))
        return launchers[-1]

    yield make
    for launcher in launchers:
        launcher.process.kill()
        launcher.process.communicate()


def _make_run(
    root,
    *,
    seed=0,
    arm="wcsegnet/nucleus",
    dataset="jiangxi",
    drop=0,
    dirty=False,
    mode="workstation",
    **config,
):
    """Make a finished run whose predictions are right in every pixel."""
    config = {"datasets": [dataset], "cell_types": TYPES} | config
    run = results.start_run("05_nasser2025_wcsegnet", mode, arm, seed, config=config, output_dir=root)
    table = datasets.read_split(dataset if dataset != "synthetic" else "jiangxi")
    table = table[(table["split"] == "test") & table["cell_type"].isin(TYPES)]
    table = table.iloc[: len(table) - drop]
    classes = np.array([[[TYPES.index(t) + 1, 0]] for t in table["cell_type"]])
    per_image = metrics.count_pixels(list(table["image_id"]), classes, classes, TYPES)
    per_image["dataset"] = dataset
    per_image["type_true"] = per_image["type_pred"] = table["cell_type"].repeat(4).to_numpy()
    scores = metrics.score_datasets(per_image, TYPES, seed=seed) | {"plateau_epoch": 3, "train_s": 90.0}
    (run.folder / "history.csv").write_text("epoch,loss,val_loss\n1,1.0,1.0\n")
    folder = results.finish_run(run, per_image=per_image, metrics=scores, datasets_used=[dataset])
    source = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(json.dumps(source | {"commit": "c" * 40, "dirty": dirty}))
    return folder


@pytest.fixture
def make_run():
    """Return a function that makes a finished run below a folder."""
    return _make_run


STAND_IN_COLOURS = {"rbc": (225, 150, 150), "wbc": (130, 70, 170), "plt": (60, 20, 60)}


@pytest.fixture
def stand_in_networks():
    """Return networks that find cells by their colour, so that what they should find is known.

    Nothing but the colours of `draw_discs` gets a probability above one half. Their margin is 4 pixels.
    """

    def make(cell):
        colour = np.array(STAND_IN_COLOURS[cell], np.float32)

        def predict(tiles):
            distance = np.abs(tiles[:, 4:-4, 4:-4].astype(np.float32) - colour).max(axis=-1, keepdims=True)
            return np.clip(1 - distance / 40, 0, 1)

        return networks.Network(
            cell=cell,
            predict=predict,
            cell_radius=9.0 if cell == "wbc" else 18.0,
            margin=4,
            counting={"method": "ccl", "ccl": {"min_area": 0.01}},
            card={"cell": cell},
        )

    return {cell: make(cell) for cell in STAND_IN_COLOURS}


@pytest.fixture
def draw_discs():
    """Return a function that draws an image of discs: (cell, row, column, radius) each."""

    def draw(shape, discs):
        image = np.full((*shape, 3), 240, np.uint8)
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        for cell, row, column, radius in discs:
            image[np.hypot(rows - row, columns - column) <= radius] = STAND_IN_COLOURS[cell]
        return image

    return draw
