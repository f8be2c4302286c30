"""LocalStack in host mode, for real: starting, stopping, what our plugins add to it, and what can be wrong with it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import capabilities
import psutil
import pytest
from capabilities import missing
from ports import free_port
from sessions import aws_client

from twinloop_local import LocalCloudError, LocalSettings, PortInUseError, deploy, down, status, up
from twinloop_local.components import programs
from twinloop_local.localstack import VERSION, variables, why_plain

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests" / "support" / "toy_app"
TABLES = """
AWSTemplateFormatVersion: "2010-09-09"
Parameters: {Words: {Type: String}}
Resources:
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: pk, AttributeType: S}]
      KeySchema: [{AttributeName: pk, KeyType: HASH}]
      TimeToLiveSpecification: {AttributeName: expires_at, Enabled: true}
  Lake:
    Type: AWS::Glue::Database
    Properties:
      CatalogId: !Ref AWS::AccountId
      DatabaseInput: {Name: !Sub "${AWS::StackName}_lake", Description: !Ref Words}
Outputs:
  Table: {Value: !Ref Table}
  Lake: {Value: !Ref Lake}
"""

pytestmark = pytest.mark.slow
installed = pytest.mark.skipif(
    not (ROOT / ".envs/localstack").exists(),
    reason="LocalStack is not installed: make environments EMULATOR=localstack",
)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[LocalSettings]:
    here = LocalSettings.from_environment(ROOT, {})
    made = replace(here, root=tmp_path, stack="toy", port=free_port(), sagemaker_port=free_port())
    yield made
    down(made)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def environment(folder: Path, **distributions: str) -> Path:
    """An environment as far as can be seen from outside: an interpreter and what is installed."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    for name, version in distributions.items():
        (folder / "lib" / "python3.13" / "site-packages" / f"{name}-{version}.dist-info").mkdir(parents=True)
    return folder


@installed
def test_up_status_down_leave_nothing(settings: LocalSettings) -> None:
    said: list[str] = []
    started = up(settings, "localstack", progress=said.append)
    assert (started.state, started.emulator) == ("running", "localstack")
    assert [component.name for component in started.components] == ["localstack", "sagemaker"]
    before = [component.pid for component in started.components]
    assert up(settings, "localstack") == up(settings) == started  # again, by its name or by none: nothing happens
    down(settings, progress=said.append)
    assert all(gone(pid) for pid in before)
    assert list(settings.root.iterdir()) == []
    written = list((ROOT / ".envs" / "localstack").rglob(".filesystem"))
    assert written == []


@installed
@pytest.mark.parametrize("emulator", ["ministack", "localstack"])
def test_files_in_the_users_folder_are_not_taken_for_modules(
    settings: LocalSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulator: str
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("json", "localstack", "ministack", "moto", "twinloop_local", "twinloop_localstack"):
        (mine / f"{name}.py").write_text("raise SystemExit('a file of the user was imported')")
    monkeypatch.chdir(mine)
    started = up(settings, emulator)
    assert started.state == "running"
    assert {psutil.Process(component.pid).cwd() for component in started.components} == {str(settings.state_dir)}


@installed
def test_nothing_listens_beyond_this_machine(settings: LocalSettings) -> None:
    up(settings, "localstack")
    for service, call in {
        "sqs": "list_queues",
        "dynamodb": "list_tables",
        "glue": "get_databases",
        "stepfunctions": "list_state_machines",
        "firehose": "list_delivery_streams",
        "lambda": "list_functions",
        "apigateway": "get_rest_apis",
    }.items():
        getattr(aws_client(settings, service), call)()
    for component in status(settings).components:
        family = [psutil.Process(component.pid), *psutil.Process(component.pid).children(recursive=True)]
        sockets = [c for process in family for c in process.net_connections("inet")]
        bound = {c.laddr.ip for c in sockets if c.status == psutil.CONN_LISTEN or c.type == socket.SOCK_DGRAM}
        assert bound == {"127.0.0.1"}


@installed
def test_tables_and_catalogue_come_by_cloudformation(settings: LocalSettings) -> None:
    up(settings, "localstack")
    cloud = aws_client(settings, "cloudformation")

    def told(words: str) -> dict[str, object]:
        return {
            "StackName": "toy",
            "TemplateBody": TABLES,
            "Parameters": [{"ParameterKey": "Words", "ParameterValue": words}],
        }

    cloud.create_stack(**told("first"))
    cloud.get_waiter("stack_create_complete").wait(StackName="toy", WaiterConfig={"Delay": 1})
    outputs = {o["OutputKey"]: o["OutputValue"] for o in cloud.describe_stacks(StackName="toy")["Stacks"][0]["Outputs"]}
    assert outputs["Lake"] == "toy_lake"

    table, items = outputs["Table"], aws_client(settings, "dynamodb")
    assert items.describe_time_to_live(TableName=table)["TimeToLiveDescription"]["AttributeName"] == "expires_at"
    once = {"TableName": table, "Item": {"pk": {"S": "a"}}, "ConditionExpression": "attribute_not_exists(pk)"}
    items.put_item(**once)
    with pytest.raises(items.exceptions.ConditionalCheckFailedException):
        items.put_item(**once)
    batch = items.batch_get_item(RequestItems={table: {"Keys": [{"pk": {"S": "a"}}, {"pk": {"S": "b"}}]}})
    assert batch["Responses"][table] == [{"pk": {"S": "a"}}]

    glue = aws_client(settings, "glue")
    assert glue.get_database(Name="toy_lake")["Database"]["Description"] == "first"
    cloud.update_stack(**told("second"))
    cloud.get_waiter("stack_update_complete").wait(StackName="toy", WaiterConfig={"Delay": 1})
    assert glue.get_database(Name="toy_lake")["Database"]["Description"] == "second"

    cloud.delete_stack(StackName="toy")
    cloud.get_waiter("stack_delete_complete").wait(StackName="toy", WaiterConfig={"Delay": 1})
    assert items.list_tables()["TableNames"] == []
    assert glue.get_databases()["DatabaseList"] == []


@installed
def test_sam_deploys_and_functions_see_nothing_of_the_shell(
    settings: LocalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINLOOP_SECRET_OF_THE_SHELL", "must not reach a function")
    settings = replace(settings, region="eu-west-1")
    up(settings, "localstack")
    got = deploy(
        settings,
        template=TOY / "template.yaml",
        parameters={"SageMakerEndpointUrl": settings.sagemaker_endpoint},
        sources=[TOY / "hello", TOY / "layer"],
    )
    called = aws_client(settings, "lambda").invoke(FunctionName=got["FunctionName"])
    answer = json.loads(called["Payload"].read())
    assert (answer["greeting"], answer["python"], answer["jobs"]) == ("hello from the layer", [3, 13], 0)
    seen = answer["environment"]
    assert seen["AWS_REGION"] == "eu-west-1"
    assert seen["AWS_ENDPOINT_URL"].endswith(f":{settings.port}")
    inherited = {"TWINLOOP_SECRET_OF_THE_SHELL", "TWINLOOP_LOCAL_STATE", "GATEWAY_LISTEN", "FILESYSTEM_ROOT"}
    assert not inherited & set(seen)


@installed
def test_a_crash_is_seen_and_mended_even_by_another_emulator(settings: LocalSettings) -> None:
    started = up(settings, "localstack")
    pids = {component.name: component.pid for component in started.components}
    psutil.Process(pids["localstack"]).kill()
    psutil.Process(pids["localstack"]).wait(5) if psutil.pid_exists(pids["localstack"]) else None
    assert (status(settings).state, status(settings).emulator) == ("broken", "localstack")
    said: list[str] = []
    mended = up(settings, "ministack", progress=said.append)
    assert (mended.state, mended.emulator) == ("running", "ministack")
    assert "cleaning up what a crashed run left behind" in said
    assert all(gone(pid) for pid in pids.values())


@installed
def test_another_emulator_while_one_runs_is_refused(settings: LocalSettings) -> None:
    up(settings, "localstack")
    with pytest.raises(LocalCloudError, match=r"runs on localstack, not on ministack; run `twinloop down` first"):
        up(settings, "ministack")
    assert status(settings).state == "running"


@installed
def test_a_port_in_use_is_named_with_its_variable(settings: LocalSettings) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", settings.port))
        holder.listen()
        with pytest.raises(PortInUseError, match=rf"port {settings.port} .*TWINLOOP_PORT=<port>"):
            up(settings, "localstack")
    assert not settings.state_dir.exists()


def test_absent_it_is_told_how_to_get_it(settings: LocalSettings, tmp_path: Path) -> None:
    missing = replace(settings, localstack_env=tmp_path / "nowhere")
    with pytest.raises(LocalCloudError, match=r"make environments EMULATOR=localstack.* TWINLOOP_LOCALSTACK_ENV"):
        up(missing, "localstack")
    assert status(settings).state == "down"
    (tmp_path / "empty" / "bin").mkdir(parents=True)
    (tmp_path / "empty" / "bin" / "python").touch()
    with pytest.raises(LocalCloudError, match=rf"LocalStack {VERSION} is needed, .* has none: .*EMULATOR=localstack"):
        up(replace(settings, localstack_env=tmp_path / "empty"), "localstack")


def test_another_version_is_refused(settings: LocalSettings, tmp_path: Path) -> None:
    other = environment(tmp_path / "env", localstack_core="2026.3.0", twinloop_localstack="0.1.0")
    with pytest.raises(LocalCloudError, match=rf"LocalStack {VERSION} is needed, .* has 2026\.3\.0: install it with"):
        up(replace(settings, localstack_env=other), "localstack")


def test_without_our_plugins_it_is_refused(settings: LocalSettings, tmp_path: Path) -> None:
    bare = environment(tmp_path / "env", localstack_core=VERSION)
    with pytest.raises(LocalCloudError, match=r"lacks our plugins .*EMULATOR=localstack"):
        up(replace(settings, localstack_env=bare), "localstack")


def test_without_a_runtime_for_functions_it_is_refused(settings: LocalSettings, tmp_path: Path) -> None:
    whole = environment(tmp_path / "env", localstack_core=VERSION, twinloop_localstack="0.1.0")
    with pytest.raises(LocalCloudError, match=r"no Lambda runtime at .* TWINLOOP_LAMBDA_RUNTIME"):
        up(replace(settings, localstack_env=whole, lambda_runtime=tmp_path / "nowhere"), "localstack")


@pytest.mark.parametrize(
    ("user", "way_out"), [(0, "root needs the right CAP_SYS_ADMIN"), (1000, "start it as root, or let ordinary users")]
)
def test_where_functions_cannot_be_isolated_one_line_says_so_and_why(
    settings: LocalSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, way_out: str
) -> None:
    whole = environment(tmp_path / "env", localstack_core=VERSION, twinloop_localstack="0.1.0")
    settings = replace(settings, localstack_env=whole, lambda_runtime=environment(tmp_path / "runtime"))
    monkeypatch.setattr("os.geteuid", lambda: user)
    python = whole / "bin" / "python"

    def notes(script: str) -> tuple[str, ...]:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        return programs(settings, "localstack")[0].notes

    assert notes("true") == ()
    [note] = notes("echo Operation not permitted: unshare")
    assert "not at /var/task" in note
    assert "refused: Operation not permitted: unshare" in note
    assert way_out in note
    # A trial that breaks is no proof that functions are isolated.
    [note] = notes("echo No module named trial >&2; exit 1")
    assert "is not known: the trial could not be made: No module named trial" in note
    assert way_out not in note
    python.chmod(0o644)
    [note] = programs(settings, "localstack")[0].notes
    assert "the trial could not be made" in note


@pytest.mark.parametrize("plain", [None, "a trial was refused: Operation not permitted: unshare"])
def test_tests_of_functions_places_are_skipped_where_up_says_that_there_are_none(
    monkeypatch: pytest.MonkeyPatch, plain: str | None
) -> None:
    def broken(settings: LocalSettings) -> None:
        raise LocalCloudError("the trial could not be made")

    monkeypatch.setattr(capabilities, "why_plain", lambda settings: plain)
    capabilities._missing_here.cache_clear()
    try:
        reason = missing("function places", "localstack")
        assert (reason is None) == (plain is None)
        assert plain is None or plain in (reason or "")
        assert "temporary folders" in (missing("function places", "ministack") or "")
        assert missing("error types", "localstack") is None
        capabilities._missing_here.cache_clear()
        monkeypatch.setattr(capabilities, "why_plain", broken)
        assert missing("function places", "localstack") is None
    finally:
        capabilities._missing_here.cache_clear()


@pytest.mark.skipif(not (ROOT / ".envs/lambda-runtime").exists(), reason="the Lambda runtime is not installed")
@pytest.mark.parametrize("right", [True, False])
def test_the_trial_finds_what_the_executor_finds(settings: LocalSettings, tmp_path: Path, right: bool) -> None:
    """Root without the right to mount, as in an ordinary container, is no better off than an ordinary user."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root has rights to give up, by setpriv")
    whole = environment(tmp_path / "env", localstack_core=VERSION, twinloop_localstack="0.1.0")
    python = whole / "bin" / "python"
    fewer = "" if right else "setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin "
    plugins = ROOT / "infra/local/localstack_plugins"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={plugins} exec {fewer}{sys.executable} "$@"\n')
    python.chmod(0o755)
    settings = replace(settings, localstack_env=whole)
    script = """
import os
from twinloop_localstack.lambdas.place import make_place
made = make_place(os.environ)
print(made.sandbox.private)
made.close()
"""
    found = subprocess.run([python, "-c", script], env=variables(settings), capture_output=True, text=True, check=True)
    reason = why_plain(settings)
    assert (reason is None) == (found.stdout.strip() == "True")
    if not right:
        assert reason is not None
        assert "Operation not permitted: unshare" in reason
