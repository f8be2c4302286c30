"""The process executor for LocalStack's functions: the real runtime client, and what AWS puts around it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lambda_handlers
import psutil
import pytest

from twinloop_local import processes
from twinloop_localstack.lambdas import environment as environment_module
from twinloop_localstack.lambdas import place as place_module
from twinloop_localstack.lambdas.environment import Environment
from twinloop_localstack.lambdas.errors import Closed, ExecutorError
from twinloop_localstack.lambdas.function import Function, Invocation, Result
from twinloop_localstack.lambdas.guard import may_become
from twinloop_localstack.lambdas.place import Place, make_place, why_not_private
from twinloop_localstack.lambdas.runtime import Runtime, find_runtime
from twinloop_localstack.lambdas.runtime_api import LARGEST_RESPONSE
from twinloop_localstack.lambdas.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[2]
RUNTIME = ROOT / ".envs" / "lambda-runtime"
PLUGINS = ROOT / "infra" / "local" / "localstack_plugins"
SYSTEM = {"bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "sys", "usr"}
TOLD = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

# Writes over its package and its layer, where it can.
OVERWRITE = """
import os, sys

def handler(event, context):
    layers = [os.path.dirname(entry) for entry in sys.path if entry.endswith("/python")]
    assert layers
    done = set()
    for folder in (os.getcwd(), *layers):
        try:
            os.chmod(os.path.join(folder, "data.txt"), 0o600)
            with open(os.path.join(folder, "data.txt"), "w") as file:
                file.write("overwritten")
            done.add("copy")
        except OSError:
            done.add("refused")
    return done.pop() if len(done) == 1 else sorted(done)
"""

# Holds 60 % of 128 MB and forks a child, which fills some MB of its own and is idle for longer than a look takes.
FORKS = """
import os, time

held = bytearray(b"x" * 1024) * (77 << 10)

def handler(event, context):
    child = os.fork()
    if child == 0:
        own = bytearray(b"y" * 1024) * (event["megabytes"] << 10)
        time.sleep(event["idle_s"])
        os._exit(0)
    return os.waitpid(child, 0)[1]
"""


@pytest.fixture(scope="session")
def runtime() -> Runtime:
    if not RUNTIME.exists():
        pytest.skip("the Lambda runtime is not installed: python3 infra/environments.py")
    return find_runtime(RUNTIME)


@pytest.fixture(scope="session", params=["private", "plain"])
def place(
    request: pytest.FixtureRequest, runtime: Runtime, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp(request.param)
    sandbox = Sandbox(runtime, private=request.param == "private")
    if sandbox.private and (refused := why_not_private(sandbox, folder / "trial")):
        pytest.skip(f"no namespaces here: {refused}")
    made = Place(sandbox, folder)
    yield made
    made.close()


class Started:
    """A function in an execution environment of its own."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._numbers = iter(range(1000))

    def call(self, event: Any = None) -> Result:
        return self.environment.invoke(Invocation(f"request-{next(self._numbers)}", json.dumps(event or {}).encode()))

    def answer(self, event: Any = None) -> Any:
        result = self.call(event)
        assert not result.failed, result
        return json.loads(result.payload)

    def error(self, event: Any = None) -> dict[str, Any]:
        result = self.call(event)
        assert result.failed, result
        found: dict[str, Any] = json.loads(result.payload)
        return found


Start = Callable[..., Started]


@pytest.fixture
def start(place: Place, tmp_path: Path) -> Iterator[Start]:
    """Start a function of lambda_handlers, or of the source that is given."""
    started: list[Environment] = []

    def begin(
        handler: str, *, source: str | None = None, variables: dict[str, str] | None = None, **more: Any
    ) -> Started:
        code = tmp_path / f"code-{len(started)}"
        code.mkdir()
        if source is None:
            shutil.copy(lambda_handlers.__file__, code / "handlers.py")
        else:
            (code / "handlers.py").write_text(source)
        told = {**TOLD, **(variables or {})}
        function = Function("shop", f"handlers.{handler}", code, variables=told, **{"timeout_s": 20, **more})
        environment = place.environment(f"{tmp_path.name}-{len(started)}", function)
        started.append(environment)
        environment.start()
        return Started(environment)

    yield begin
    for environment in started:
        environment.close()


def test_a_warm_worker_keeps_its_state_and_its_log_has_the_platforms_lines(start: Start) -> None:
    shop = start("count", timeout_s=60)
    first, second = shop.call(), shop.call()
    said, again = json.loads(first.payload), json.loads(second.payload)
    assert (said["calls"], again["calls"]) == (1, 2)
    assert said["process"] == again["process"]
    assert 30_000 < said["left_ms"] <= 60_000
    numbers = r"\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\tMax Memory Used: \d+ MB\t"
    assert re.fullmatch(
        r"loading\nSTART RequestId: request-0 Version: \$LATEST\ncall 1 request-0\nEND RequestId: request-0\n"
        rf"REPORT RequestId: request-0{numbers}Init Duration: \d+\.\d\d ms\t\n",
        first.log,
    )
    assert re.fullmatch(
        r"START RequestId: request-1 Version: \$LATEST\ncall 2 request-1\nEND RequestId: request-1\n"
        rf"REPORT RequestId: request-1{numbers}\n",
        second.log,
    )


def test_a_function_that_logs_json_gets_the_platforms_lines_as_json(start: Start) -> None:
    shop = start("count", variables={"AWS_LAMBDA_LOG_FORMAT": "JSON"}, memory_mb=256)
    lines = [json.loads(line) for line in shop.call().log.splitlines() if line.startswith("{")]
    assert [line["type"] for line in lines] == ["platform.start", "platform.report"]
    assert lines[0]["record"] == {"requestId": "request-0", "version": "$LATEST"}
    assert lines[1]["record"]["status"] == "success"
    assert lines[1]["record"]["metrics"]["memorySizeMB"] == 256
    assert lines[1]["record"]["metrics"]["initDurationMs"] > 0


def test_everything_that_is_written_is_logged(start: Start) -> None:
    log = start("say").call().log
    for words in ("by print, ä", "to standard error", "by a child", "by C code"):
        assert f"{words}\n" in log
    assert "no end of line\nEND RequestId" in log


def test_the_environment_holds_what_aws_gives_and_nothing_of_the_host(
    start: Start, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_SECRET", "of the host")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    seen = start("look", variables={"COLOUR": "blue"}).answer()
    by_aws = {"AWS_EXECUTION_ENV", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT", "LANG"}
    by_aws |= {"LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TZ", "_HANDLER"}
    allowed = by_aws | set(TOLD) | {"COLOUR"} | (set() if place.sandbox.private else {"HOME", "TMPDIR"})
    assert set(seen["variables"]) - {"LC_CTYPE"} == allowed  # Python itself sets that where the locale is not installed
    assert seen["variables"]["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.13"
    assert not any(".venv" in entry or entry == str(ROOT) for entry in seen["path"])
    assert seen["folder"] == seen["variables"]["LAMBDA_TASK_ROOT"] == seen["path"][0]


def test_a_private_worker_sees_aws_folders_and_no_others(start: Start, place: Place) -> None:
    if not place.sandbox.private:
        pytest.skip("plain folders are elsewhere")
    seen = start("look").answer()
    assert seen["folder"] == "/var/task"
    assert set(seen["root"]) <= {*SYSTEM, "dev", "opt", "proc", "tmp", "var"}
    assert seen["user"] != 0
    assert seen["processes"] == [1, 2]
    assert seen["path"][:3] == ["/var/task", "/opt/python/lib/python3.13/site-packages", "/opt/python"]


def test_boto3_comes_with_the_runtime_and_the_hosts_packages_do_not(start: Start, place: Place) -> None:
    found = start("load").answer(["boto3", "botocore", "awslambdaric", "pytest", "moto", "twinloop", "localstack"])
    packages = "/var/runtime/" if place.sandbox.private else str(RUNTIME)
    assert all(found[name].startswith(packages) for name in ("boto3", "botocore", "awslambdaric"))
    for name in ("pytest", "moto", "twinloop", "localstack"):
        assert found[name] == f"No module named '{name}'"


def test_layers_lie_over_each_other_and_before_the_runtimes_packages(
    start: Start, tmp_path: Path, place: Place
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for layer in (one, two):
        (layer / "python").mkdir(parents=True)
        (layer / "python" / "shared.py").write_text("")
        (layer / "python" / f"{layer.name}_only.py").write_text("")
    (two / "python" / "boto3.py").write_text("")
    (two / "python" / "handlers.py").write_text("raise RuntimeError('the code comes first')")
    deep = two / "python" / "lib" / "python3.13" / "site-packages"
    deep.mkdir(parents=True)
    (deep / "deep.py").write_text("")
    (one / "python" / "shared.py").write_text("raise RuntimeError('the later layer wins')")
    (one / "data.txt").write_text("of the layer")
    names = ["shared", "one_only", "two_only", "deep", "boto3"]
    found = start("load", layers=(one, two)).answer(names)
    assert [Path(found[name]).name for name in names] == [f"{name}.py" for name in names]
    if place.sandbox.private:
        assert found["deep"] == "/opt/python/lib/python3.13/site-packages/deep.py"
        assert found["boto3"] == "/opt/python/boto3.py"
        assert start("keep", layers=(one, two)).answer({"folder": "/opt"}) == ["data.txt", "python"]


def test_tmp_is_kept_between_calls_and_not_shared(start: Start, place: Place) -> None:
    folder = "/tmp" if place.sandbox.private else ""  # noqa: S108
    one, other = start("keep"), start("keep")
    assert one.answer({"folder": folder, "write": "mine"}) == ["mine"]
    assert one.answer({"folder": folder}) == ["mine"]
    assert other.answer({"folder": folder}) == []
    assert not Path("/tmp/mine").exists()  # noqa: S108


@pytest.mark.parametrize("path", ["new.txt", "handlers.py", "/opt/new.txt", "/etc/new.txt", "/new.txt", "/var/new.txt"])
def test_everything_but_tmp_is_read_only(start: Start, place: Place, path: str) -> None:
    if not place.sandbox.private and (path.startswith("/") or os.geteuid() == 0):
        pytest.skip("without namespaces, only the folder is protected, and not from root")
    error = start("write").error({"path": path})
    assert (error["errorType"], "ead-only file system" in error["errorMessage"]) in {
        ("OSError", True),
        ("PermissionError", False),
    }
    if place.sandbox.private:
        assert "Read-only file system" in error["errorMessage"]


def test_the_package_and_the_layers_are_never_changed(place: Place, tmp_path: Path) -> None:
    code, one, two = (tmp_path / name for name in ("code", "one", "two"))
    for folder in (code, one, two):
        folder.mkdir()
        (folder / "data.txt").write_text(folder.name)
        (folder / "data.txt").chmod(0o666)
    outside = tmp_path / "outside.txt"
    outside.write_text("outside")
    (one / "name.txt").symlink_to(outside)
    (two / "name.txt").write_text("two")
    (code / "handlers.py").write_text(OVERWRITE)
    files = [code / "data.txt", one / "data.txt", two / "data.txt", outside]
    before = [(path.read_bytes(), path.stat().st_mode) for path in files]
    function = Function("shop", "handlers.handler", code, (one, two), variables=TOLD, timeout_s=20)
    environment = place.environment(f"{tmp_path.name}-kept", function)
    try:
        environment.start()
        seen = Started(environment).answer()
        assert [(path.read_bytes(), path.stat().st_mode) for path in files] == before
        assert seen == ("refused" if place.sandbox.private else "copy")
    finally:
        environment.close()


def test_changed_code_is_seen_by_the_next_environment(place: Place, tmp_path: Path) -> None:
    code, layer = tmp_path / "code", tmp_path / "layer"
    (layer / "python").mkdir(parents=True)
    code.mkdir()
    function = Function("shop", "handlers.handler", code, (layer,), variables=TOLD, timeout_s=20)
    for number in (1, 2):
        for path, text in {
            code / "handlers.py": f"import words\ndef handler(event, context): return [{number}, words.NUMBER]\n",
            layer / "python" / "words.py": f"NUMBER = {number}\n",
        }.items():
            path.unlink(missing_ok=True)
            path.write_text(text)
        environment = place.environment(f"{tmp_path.name}-{number}", function)
        try:
            environment.start()
            assert Started(environment).answer() == [number, number]
        finally:
            environment.close()


@pytest.mark.parametrize("handler", ["leak", "leak_in_child"])
def test_a_leak_is_stopped_at_the_limit_and_the_next_call_starts_afresh(start: Start, handler: str) -> None:
    shop = start(handler, memory_mb=128, timeout_s=50)  # `leak_in_child` would go on for longer
    result = shop.call()
    error = json.loads(result.payload)
    assert error["errorType"] == "Runtime.ExitError"
    assert error["errorMessage"] == "RequestId: request-0 Error: Runtime exited with error: signal: killed"
    assert "Max Memory Used: 128 MB" in result.log
    assert "Status: error\tError Type: Runtime.OutOfMemory" in result.log
    if handler == "leak":
        again = shop.call({"leak": False})
        assert (again.payload, "loading" in again.log) == (b'"lean"', True)


@pytest.mark.parametrize(("megabytes", "killed"), [(0, False), (60, True)])
def test_memory_that_processes_share_counts_once(start: Start, megabytes: int, killed: bool) -> None:
    """A handler that holds most of its limit may fork; what its child then has of its own counts."""
    shop = start("handler", source=FORKS, memory_mb=128)
    result = shop.call({"megabytes": megabytes, "idle_s": 15 if killed else 0.5})
    assert result.failed == killed, result
    if killed:
        assert "Error Type: Runtime.OutOfMemory" in result.log
    else:
        used = int(re.findall(r"Max Memory Used: (\d+) MB", result.log)[0])
        assert 128 * 0.6 <= used < 128


def test_a_hanging_call_is_killed_with_all_it_started(start: Start) -> None:
    shop = start("hang", timeout_s=1)
    seconds = f"61.{os.getpid()}"
    began = time.monotonic()
    result = shop.call({"seconds": seconds})
    assert 1 <= time.monotonic() - began < 30  # it would sleep for a minute
    assert json.loads(result.payload) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": "RequestId: request-0 Error: Task timed out after 1.00 seconds",
    }
    assert "hanging\n" in result.log
    assert re.search(r"^\S+Z request-0 Task timed out after 1.00 seconds$", result.log, re.MULTILINE)
    assert "Duration: 1000.00 ms" in result.log
    assert not _running("sleep", seconds)
    assert shop.answer({"hang": False}) == 0


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"code": 3}, "Runtime exited with error: exit status 3"),
        ({"code": 0}, "Runtime exited without providing a reason"),
        ({"signal": "SIGSEGV"}, "Runtime exited with error: signal: segmentation fault"),
        ({"signal": "SIGKILL"}, "Runtime exited with error: signal: killed"),
    ],
)
def test_a_crash_is_told_and_the_next_call_starts_afresh(start: Start, event: dict[str, Any], words: str) -> None:
    shop = start("end")
    result = shop.call(event)
    error = {"errorType": "Runtime.ExitError", "errorMessage": f"RequestId: request-0 Error: {words}"}
    assert json.loads(result.payload) == error
    assert f"RequestId: request-0 Error: {words}\nRuntime.ExitError\nEND" in result.log
    assert "Status: error\tError Type: Runtime.ExitError" in result.log
    again = shop.call()
    assert (again.payload, "loading" in again.log) == (b'"alive"', True)
    assert "Init Duration" not in again.log  # it is part of the call, as on AWS


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("import absent", "Runtime.ImportModuleError", "Unable to import module 'handlers': No module named 'absent'"),
        ("handler = (", "Runtime.UserCodeSyntaxError", "Syntax error in module 'handlers': '(' was never closed"),
        ("other = 1", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'handlers'"),
        ("open('/absent')", "FileNotFoundError", "[Errno 2] No such file or directory: '/absent'"),
        ("import sys; sys.exit(5)", "Runtime.ExitError", "Runtime exited with error: exit status 5"),
    ],
)
def test_a_failed_initialisation_is_told_in_its_own_words_each_time(
    start: Start, source: str, kind: str, message: str
) -> None:
    shop = start("handler", source=f"print('so far')\n{source}\n" if kind != "Runtime.UserCodeSyntaxError" else source)
    for _ in range(2):
        result = shop.call()
        error = json.loads(result.payload)
        assert result.failed
        assert error["errorType"] == kind
        assert message in error["errorMessage"]
        assert "so far" in result.log or "SyntaxError" in kind
        assert f"Error Type: {kind}" in result.log


def test_a_failed_initialisation_can_be_asked_for_ahead_of_any_call(start: Start) -> None:
    assert start("count").environment.ready() is None
    failure = start("handler", source="import absent").environment.ready()
    assert failure is not None
    assert json.loads(failure.payload)["errorType"] == "Runtime.ImportModuleError"


@pytest.mark.parametrize(("takes", "timeout_s", "fails"), [(0.6, 20, False), (30, 2, True)])
def test_what_initialisation_takes_beyond_its_time_counts_as_the_calls(
    start: Start, monkeypatch: pytest.MonkeyPatch, takes: float, timeout_s: int, fails: bool
) -> None:
    monkeypatch.setattr(environment_module, "INIT_LIMIT_S", 0.1)
    source = f"import time\ntime.sleep({takes})\ndef handler(event, context): return 1\n"
    result = start("handler", source=source, timeout_s=timeout_s).call()
    assert result.failed == fails
    assert ("Sandbox.Timedout" in result.payload.decode()) == fails


def test_an_error_keeps_its_class_message_and_place(start: Start) -> None:
    result = start("fail").call()
    error = json.loads(result.payload)
    assert (error["errorType"], error["errorMessage"]) == ("OutOfStock", "no more of these")
    assert error["requestId"] == "request-0"
    assert "handlers.py" in error["stackTrace"][0]
    assert "[ERROR] OutOfStock: no more of these" in result.log
    assert "Error Type" not in result.log


def test_an_answer_of_6_mb_passes_and_one_byte_more_does_not(start: Start) -> None:
    shop = start("answer", memory_mb=512)
    assert len(shop.call({"bytes": LARGEST_RESPONSE}).payload) == LARGEST_RESPONSE
    assert shop.error({"bytes": LARGEST_RESPONSE + 1}) == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    assert shop.answer({"bytes": 3}) == "x"


def test_a_large_event_arrives_whole(start: Start) -> None:
    assert start("count", memory_mb=512).answer({"text": "ö" * 3_000_000})["calls"] == 1


def test_an_answer_that_is_no_json_is_an_error(start: Start) -> None:
    assert start("odd").error()["errorType"] == "Runtime.MarshalError"


def test_environments_work_at_the_same_time(start: Start) -> None:
    shops = [start("sleep") for _ in range(3)]
    for shop in shops:
        shop.environment.ready()
    with ThreadPoolExecutor(len(shops)) as pool:
        ended = list(pool.map(lambda shop: shop.answer({"seconds": 3}), shops))
    assert max(ended) - min(ended) < 3  # each had begun before another one ended


def test_closing_ends_a_call_under_way_and_leaves_nothing(start: Start, place: Place) -> None:
    shop = start("hang")
    seconds = f"62.{os.getpid()}"
    ends: list[BaseException] = []

    def call() -> None:
        try:
            shop.call({"seconds": seconds})
        except Closed as error:
            ends.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    _until(lambda: _running("sleep", seconds))
    shop.environment.close()
    thread.join(60)
    assert len(ends) == 1
    assert not _running("sleep", seconds)
    with pytest.raises(Closed):
        shop.call()


def test_nothing_listens_but_on_this_machine(start: Start) -> None:
    start("count").answer()
    listening = [c.laddr.ip for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert set(listening) == {"127.0.0.1"}


Hanging = tuple[subprocess.Popen[bytes], list[psutil.Process], str]


@pytest.fixture(params=[True, False], ids=["private", "plain"])
def hanging(runtime: Runtime, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hanging]:
    """A process with a call under way that has started a program: it, all below it, and that program's argument."""
    private = bool(request.param)
    if private and (refused := why_not_private(Sandbox(runtime, private=True), tmp_path / "trial")):
        pytest.skip(f"no namespaces here: {refused}")
    code = tmp_path / "code"
    code.mkdir()
    shutil.copy(lambda_handlers.__file__, code / "handlers.py")
    seconds = f"300.{os.getpid()}{private:d}{abs(hash(request.node.name)) % 1000}"
    script = f"""
import json
from pathlib import Path
from twinloop_localstack.lambdas.function import Function, Invocation
from twinloop_localstack.lambdas.place import Place
from twinloop_localstack.lambdas.runtime import find_runtime
from twinloop_localstack.lambdas.sandbox import Sandbox
place = Place(Sandbox(find_runtime(Path({str(RUNTIME)!r})), {private}), Path({str(tmp_path / "place")!r}))
environment = place.environment("one", Function("shop", "handlers.hang", Path({str(code)!r}), timeout_s=60))
environment.start()
environment.invoke(Invocation("request", json.dumps({{"seconds": {seconds!r}}}).encode()))
"""
    variables = {**os.environ, "PYTHONPATH": str(PLUGINS), processes.MARK: str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", script], env=variables)
    try:
        _until(lambda: _running("sleep", seconds))
        below = psutil.Process(parent.pid).children(recursive=True)
        assert len(below) >= 3
        yield parent, below, seconds
    finally:
        parent.kill()
        parent.wait()
        for process in psutil.process_iter(["cmdline"]):
            if process.info["cmdline"] == ["sleep", seconds]:
                process.kill()


def test_workers_die_with_whoever_started_them(hanging: Hanging) -> None:
    parent, below, seconds = hanging
    parent.send_signal(signal.SIGKILL)
    parent.wait(60)
    _until(lambda: not any(_alive(child) for child in below))
    assert not _running("sleep", seconds)


@pytest.mark.parametrize("crashed", [True, False])
def test_down_leaves_nothing_of_a_function_behind(hanging: Hanging, tmp_path: Path, crashed: bool) -> None:
    parent, below, seconds = hanging
    if crashed:
        parent.send_signal(signal.SIGKILL)
    waiting = threading.Thread(target=parent.wait)  # as its own parent does, or its pipes stay with a dead process
    waiting.start()
    processes.sweep(str(tmp_path))
    assert not any(_alive(child) for child in below)  # already: the state folder is removed next
    assert not _running("sleep", seconds)
    waiting.join(60)


def test_a_guard_that_is_stuck_is_killed_with_all_below_it(hanging: Hanging, tmp_path: Path) -> None:
    _, below, seconds = hanging
    guards = [child for child in below if child.environ().get(processes.GUARD_MARK) == str(tmp_path)]
    assert guards
    for guard in guards:
        guard.suspend()
    processes.sweep(str(tmp_path), patience=1)
    _until(lambda: not any(_alive(child) for child in below))
    assert not _running("sleep", seconds)


def test_a_package_that_only_its_owner_can_read_is_refused_with_the_folder(place: Place, tmp_path: Path) -> None:
    if not place.sandbox.private or not may_become(65534):
        pytest.skip("only root's workers are somebody else")
    environment = place.environment("closed", Function("shop", "handlers.count", tmp_path))
    tmp_path.chmod(0o700)
    environment.start()
    with pytest.raises(ExecutorError, match="Permission denied: /var/task"):
        environment.invoke(Invocation("request", b"{}"))
    environment.close()


def test_a_runtime_that_is_absent_or_incomplete_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match=r"no Lambda runtime at .*make environments.*TWINLOOP_LAMBDA_RUNTIME"):
        find_runtime(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    with pytest.raises(ExecutorError, match="lacks awslambdaric"):
        find_runtime(tmp_path)
    (tmp_path / "bin" / "python").unlink()
    (tmp_path / "bin" / "python").symlink_to("/bin/false")
    with pytest.raises(ExecutorError, match="does not run"):
        find_runtime(tmp_path)


def test_where_the_kernel_refuses_plain_folders_serve_and_it_says_so(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(place_module, "why_not_private", lambda sandbox, folder: "not here")
    made = make_place({"TWINLOOP_LAMBDA_RUNTIME": str(RUNTIME)})
    try:
        assert not made.sandbox.private
        assert "without /var/task, /opt and a /tmp of their own: not here" in caplog.text
    finally:
        made.close()


def test_a_kernel_that_refuses_is_noticed_by_trial(place: Place, runtime: Runtime, tmp_path: Path) -> None:
    if not place.sandbox.private:
        pytest.skip("it may refuse from the start")
    broken = Runtime(runtime.name, runtime.python, tmp_path / "absent", runtime.packages)
    assert "mount" in why_not_private(Sandbox(broken, private=True), tmp_path / "trial")


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE  # whose reaping is its parent's
    except psutil.NoSuchProcess:
        return False


def _running(program: str, argument: str) -> bool:
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["cmdline"] == [program, argument] and process.info["status"] != psutil.STATUS_ZOMBIE:
            return True
    return False


def _until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.05)
