"""The template keeps its promises: tags, retention, dead letters, budgets, and next to no cost when idle."""

from __future__ import annotations

import json
import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml

from twinloop import systems
from twinloop.aws import training_jobs
from twinloop.aws.serving import ServeSettings

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return dict(cfn_yaml.load(str(ROOT / "template.yaml")))


@pytest.fixture(scope="module")
def resources(template: dict[str, Any]) -> dict[str, Any]:
    return dict(template["Resources"])


SAM = ROOT / ".envs" / "sam" / "bin" / "python"
TRANSLATE = """
import json, sys
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
print(json.dumps(Translator({}, Parser()).translate(json.load(sys.stdin), {})))
"""


@pytest.fixture(scope="module")
def deployed(template: dict[str, Any]) -> dict[str, Any]:
    """The resources that SAM makes of the template: what CloudFormation is given."""
    if not SAM.exists():
        pytest.skip("sam is not installed: make environments")
    packaged = json.loads(json.dumps(template))
    for entry in packaged["Resources"].values():
        properties = entry.get("Properties", {})
        for name in properties.keys() & {"CodeUri", "ContentUri", "DefinitionUri"}:
            properties[name] = "s3://deployments/key"
    command, region = [str(SAM), "-c", TRANSLATE], {"AWS_DEFAULT_REGION": "us-east-1"}
    done = subprocess.run(
        command, input=json.dumps(packaged), env=region, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["Resources"])


def of_type(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    found = {name: entry for name, entry in resources.items() if entry["Type"] == kind}
    assert found
    return found


def test_every_function_has_its_folder_and_a_log_group_with_retention(resources: dict[str, Any]) -> None:
    for name, entry in of_type(resources, "AWS::Serverless::Function").items():
        assert (ROOT / entry["Properties"]["CodeUri"] / "handler.py").is_file(), name
        group = entry["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]
        assert "RetentionInDays" in resources[group]["Properties"]


def test_every_consumer_has_dead_letters_and_an_alarm_on_them(resources: dict[str, Any]) -> None:
    """Queues, and the rule and the function that stand between a training job and the rung that waits for it."""
    queues = of_type(resources, "AWS::SQS::Queue")
    redriven = [q["Properties"]["RedrivePolicy"] for q in queues.values() if "RedrivePolicy" in q["Properties"]]
    train = resources["TrainFunction"]["Properties"]
    ended = train["Events"]["JobEnded"]["Properties"]["DeadLetterConfig"]["Arn"]
    assert train["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]["Destination"] == ended
    dead = {entry["deadLetterTargetArn"]["Fn::GetAtt"][0] for entry in redriven} | {ended["Fn::GetAtt"][0]}
    assert dead == {name for name in queues if name.endswith("DeadLetters")}
    watched = json.dumps(of_type(resources, "AWS::CloudWatch::Alarm"))
    assert all(f'["{name}", "QueueName"]' in watched for name in dead)


def test_every_way_in_which_the_loop_can_end_badly_rings(resources: dict[str, Any]) -> None:
    alarms = [entry["Properties"] for entry in of_type(resources, "AWS::CloudWatch::Alarm").values()]
    metrics = {(alarm["Namespace"], alarm["MetricName"]) for alarm in alarms}
    assert {("AWS/States", "ExecutionsFailed"), ("AWS/States", "ExecutionsTimedOut")} <= metrics
    # A store that was not filled fails no execution.
    watched = [alarm["Dimensions"] for alarm in alarms if alarm["MetricName"] == "Errors"]
    assert [{"Name": "FunctionName", "Value": {"Ref": "SnapshotFunction"}}] in watched
    # Nor does a refresh that the champion alone went through.
    told = {(alarm["Namespace"], alarm["MetricName"]): alarm["Dimensions"] for alarm in alarms}
    refreshing = {"Name": "FunctionName", "Value": {"Ref": "RefreshFunction"}}
    assert told["twinloop", "NotRefreshed"] == [{"Name": "service", "Value": "refresh"}, refreshing]
    assert all(alarm["AlarmActions"] == [{"Ref": "Alarms"}] for alarm in alarms)
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    names = [name.removesuffix("Alarm") for name in of_type(resources, "AWS::CloudWatch::Alarm")]
    assert [name for name in names if f"| {name} |" not in runbook] == []


def test_the_loop_ends_while_the_tokens_of_its_jobs_are_still_kept(resources: dict[str, Any]) -> None:
    machine = json.loads(re.sub(r"\$\{\w+\}", "1", (ROOT / "infra/statemachines/learn.asl.json").read_text()))
    assert machine["TimeoutSeconds"] < training_jobs._TOKEN_TTL_S
    train = machine["States"]["Ladder"]["ItemProcessor"]["States"]["Train"]
    assert train["TimeoutSecondsPath"] == "$.timeout_s", "a rung is given up in its own time"


def test_after_a_promotion_nothing_ends_the_loop_before_it_is_told(resources: dict[str, Any]) -> None:
    states = json.loads(re.sub(r"\$\{\w+\}", "1", (ROOT / "infra/statemachines/learn.asl.json").read_text()))["States"]
    name, passed = states["Promote"]["Next"], []
    while name != "Tell":
        passed.append(name)
        state = states[name]
        if state["Type"] == "Task":
            [caught] = state["Catch"]
            assert caught["ErrorEquals"] == ["States.ALL"]
            retried = {error for retrier in state["Retry"] for error in retrier["ErrorEquals"]}
            assert {"Sandbox.Timedout", "Lambda.Unknown", "UnavailableError"} <= retried
            name = caught["Next"]
        else:
            assert state["Type"] == "Pass"
            name = state["Next"]
    assert passed == ["Materialise", "NotMaterialised", "Amend"]
    assert states["Materialise"]["Next"] == "Tell"


def test_one_object_does_not_share_its_time_with_others(resources: dict[str, Any]) -> None:
    function = resources["EtlFunction"]["Properties"]
    assert function["Events"]["Raw"]["Properties"]["BatchSize"] == 1
    assert resources["RawQueue"]["Properties"]["VisibilityTimeout"] >= 6 * function["Timeout"]


def test_no_queue_takes_all_the_functions_that_an_account_may_run(resources: dict[str, Any]) -> None:
    """A peak of events must not starve what answers requests, nor have a hundred writers at one item's counters."""
    found = 0
    for entry in of_type(resources, "AWS::Serverless::Function").values():
        for source in entry["Properties"].get("Events", {}).values():
            if source["Type"] == "SQS":
                assert 2 <= source["Properties"]["ScalingConfig"]["MaximumConcurrency"] <= 20
                found += 1
    assert found == 2


def test_only_the_data_bucket_outlives_the_stack(resources: dict[str, Any]) -> None:
    kept = [name for name, entry in resources.items() if entry.get("DeletionPolicy") == "Retain"]
    assert kept == ["DataBucket"]


# What has no resource of its own to name, with the reason beside it in the template.
ANYTHING = {
    "cloudwatch:PutMetricData",
    "ecr:GetAuthorizationToken",
    "states:SendTaskFailure",
    "states:SendTaskSuccess",
}


def test_no_policy_allows_everything(resources: dict[str, Any]) -> None:
    for name, entry in resources.items():
        for statement in allowed(entry):
            assert not any(action.endswith("*") for action in listed(statement["Action"])), (name, statement)
            if "*" in listed(statement.get("Resource", [])):
                assert set(listed(statement["Action"])) <= ANYTHING, (name, statement)


def test_functions_reach_only_their_own_items_of_the_table(resources: dict[str, Any]) -> None:
    """Tokens of waiting executions lie beside users' histories."""
    mine = {"TrainFunction": "job#*"} | {function: f"{system}#*" for system, function in SERVED.items()}
    found = 0
    for name, entry in of_type(resources, "AWS::Serverless::Function").items():
        for statement in allowed(entry):
            actions = set(listed(statement["Action"]))
            if any(action.startswith("dynamodb:") for action in actions):
                keys = statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
                assert keys == ([mine[name]] if name in mine else ["*#user#*", "*#item#*"])
                whole = {"Get", "BatchGet", "Put", "Delete"}  # no scan, no query: what is read is named
                assert actions <= {f"dynamodb:{action}Item" for action in whole}, name
                found += 1
    assert found == 7


def test_a_job_can_write_its_model_and_no_jobs_code(resources: dict[str, Any]) -> None:
    def reach(role: str, action: str, key: str) -> bool:
        patterns = [
            resource["Fn::Sub"].replace("${DataBucket.Arn}/", "").replace("${AWS::StackName}", "twinloop")
            for statement in allowed(resources[role])
            if action in listed(statement["Action"])
            for resource in listed(statement["Resource"])
            if "Fn::Sub" in resource
        ]
        return any(fnmatchcase(key, pattern) for pattern in patterns)

    bundle, model = "sources/ease-0123456789abcdef/sourcedir.tar.gz", "jobs/twinloop-video-ease-1/output/model.tar.gz"
    assert reach("TrainingRole", "s3:PutObject", model)
    assert not reach("TrainingRole", "s3:PutObject", bundle)
    assert reach("TrainingRole", "s3:GetObject", bundle)
    assert reach("TrainFunction", "s3:PutObject", bundle)


SERVED = {
    system: f"Serve{system.title()}Function" for system in ("video", "ads", "search", "moderation", "suggestions")
}


def is_calibrated_live(system: str) -> bool:
    predictions = systems.load(system).predictions
    return predictions is not None and predictions.live is not None


@pytest.mark.parametrize("system", SERVED)
def test_a_missing_alias_is_not_found_instead_of_forbidden(resources: dict[str, Any], system: str) -> None:
    """S3 says which of the two by the right to list; a request for an object has no prefix to hold against it."""
    statements = allowed(resources[SERVED[system]])
    conditions = [entry["Condition"] for entry in statements if "s3:ListBucket" in listed(entry["Action"])]
    assert conditions == [{"StringLikeIfExists": {"s3:prefix": f"registry/{system}/*"}}]


@pytest.mark.parametrize("system", SERVED)
def test_a_system_serves_its_own_releases_at_its_own_path(resources: dict[str, Any], system: str) -> None:
    function = resources[SERVED[system]]["Properties"]
    assert function["CodeUri"] == "functions/serve"
    assert function["Environment"]["Variables"]["TWINLOOP_SYSTEM"] == system
    paths = {event["Properties"]["Path"] for event in function["Events"].values()}
    assert f"/v1/{system}/{systems.load(system).spec.verb}" in paths
    [read] = [entry for entry in allowed(resources[SERVED[system]]) if "s3:GetObject" in listed(entry["Action"])]
    rooms = ["registry"] + ["live"] * is_calibrated_live(system)
    assert listed(read["Resource"]) == [{"Fn::Sub": f"${{DataBucket.Arn}}/{room}/{system}/*"} for room in rooms]
    [sent] = [entry for entry in allowed(resources[SERVED[system]]) if "firehose:PutRecord" in listed(entry["Action"])]
    stream = sent["Resource"]["Fn::GetAtt"][0]
    assert function["Environment"]["Variables"]["TWINLOOP_PREDICTION_STREAM"] == {"Ref": stream}
    written = resources[stream]["Properties"]["ExtendedS3DestinationConfiguration"]["Prefix"]
    # The hour is appended by the stream itself. What is written out, not every emulator puts in.
    assert written == f"predictions/{system}/"
    others = {entry["Properties"]["LoggingConfig"]["LogGroup"]["Ref"] for entry in functions(resources).values()}
    assert len(others) == len(functions(resources)), "two functions share a log group"


def test_events_of_every_system_reach_the_lake(resources: dict[str, Any]) -> None:
    online = resources["OnlineFunction"]
    sent = [entry for entry in allowed(online) if "firehose:PutRecord" in listed(entry["Action"])]
    streams = {arn["Fn::GetAtt"][0] for entry in sent for arn in listed(entry["Resource"])}
    name = online["Properties"]["Environment"]["Variables"]["TWINLOOP_RAW_STREAM"]["Fn::Sub"]
    properties = [resources[stream]["Properties"] for stream in streams]
    found = {entry["DeliveryStreamName"]["Fn::Sub"]: entry for entry in properties}
    assert set(found) == {name.replace("{system}", system) for system in SERVED}
    for system in SERVED:
        to = found[name.replace("{system}", system)]["ExtendedS3DestinationConfiguration"]
        assert to["Prefix"].startswith(f"raw/{system}/events/live/")


def test_each_system_has_a_switch_for_what_runs_by_itself(template: dict[str, Any]) -> None:
    resources = template["Resources"]
    events = [
        event["Properties"]
        for name in ("EtlFunction", "LearnStateMachine")
        for event in resources[name]["Properties"]["Events"].values()
        if event["Type"] == "ScheduleV2"
    ]
    switches = {(json.loads(event["Input"])["system"], event["State"]["Ref"]) for event in events}
    assert len(events) == 2 * len(SERVED)
    own = {system: f"{system.title()}ScheduleState" for system in SERVED} | {"video": "ScheduleState"}
    assert switches == set(own.items())
    assert {template["Parameters"][switch]["Default"] for _, switch in switches} == {"DISABLED"}


def test_predictions_are_looked_at_every_hour_once_their_system_is_switched_on(resources: dict[str, Any]) -> None:
    events = [event["Properties"] for event in resources["MonitorFunction"]["Properties"]["Events"].values()]
    found = {(json.loads(event["Input"])["system"], event["State"]["Ref"]) for event in events}
    assert found == {("ads", "AdsScheduleState")}
    assert {system for system, _ in found} == {system for system in SERVED if is_calibrated_live(system)}
    assert {event["ScheduleExpression"] for event in events} == {"rate(1 hour)"}


def test_what_looks_at_predictions_writes_offsets_and_nothing_else(resources: dict[str, Any]) -> None:
    statements = allowed(resources["MonitorFunction"])
    reach = {action: listed(entry["Resource"]) for entry in statements for action in listed(entry["Action"])}
    assert set(reach) == {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}
    assert reach["s3:PutObject"] == [{"Fn::Sub": "${DataBucket.Arn}/live/*"}]
    read = [entry["Fn::Sub"].removeprefix("${DataBucket.Arn}/") for entry in reach["s3:GetObject"]]
    assert read == ["lake/*/events/*", "predictions/*"]
    [condition] = [entry["Condition"] for entry in statements if "s3:ListBucket" in listed(entry["Action"])]
    assert condition == {"StringLikeIfExists": {"s3:prefix": ["lake/*", "predictions/*"]}}


def test_nobody_but_what_makes_them_may_write_offsets(resources: dict[str, Any]) -> None:
    writers = {
        name
        for name, entry in resources.items()
        for statement in allowed(entry)
        if "s3:PutObject" in listed(statement["Action"]) and "/live/" in json.dumps(statement["Resource"])
    }
    assert writers == {"MonitorFunction"}


def test_what_serves_follows_its_items_once_its_system_is_switched_on(template: dict[str, Any]) -> None:
    events = template["Resources"]["RefreshFunction"]["Properties"]["Events"].values()
    told = {json.loads(event["Properties"]["Input"])["system"]: event["Properties"] for event in events}
    assert set(told) == {name for name in SERVED if systems.load(name).refresh is not None}
    for system, event in told.items():
        assert event["State"] == {"Ref": f"{system.capitalize()}ScheduleState"}
        assert template["Parameters"][event["ScheduleExpression"]["Ref"]]["Default"] == "rate(1 hour)"


def test_what_refreshes_reads_items_and_writes_releases_of_its_systems_alone(resources: dict[str, Any]) -> None:
    statements = allowed(resources["RefreshFunction"])
    reach = {action: listed(entry["Resource"]) for entry in statements for action in listed(entry["Action"])}
    assert set(reach) == {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"}
    deleted = [entry["Fn::Sub"].removeprefix("${DataBucket.Arn}/") for entry in reach["s3:DeleteObject"]]
    assert deleted == ["registry/search/*/versions/*", "registry/suggestions/*/versions/*"]
    wrote = [entry["Fn::Sub"].removeprefix("${DataBucket.Arn}/") for entry in reach["s3:PutObject"]]
    assert wrote == ["registry/search/*", "registry/suggestions/*"]
    read = [entry["Fn::Sub"].removeprefix("${DataBucket.Arn}/") for entry in reach["s3:GetObject"]]
    assert read == ["lake/search/items/*", "lake/suggestions/items/*", *wrote]
    [condition] = [entry["Condition"] for entry in statements if "s3:ListBucket" in listed(entry["Action"])]
    assert condition == {"StringLikeIfExists": {"s3:prefix": read}}


def functions(resources: dict[str, Any]) -> dict[str, Any]:
    return of_type(resources, "AWS::Serverless::Function")


def allowed(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [statement for statement in statements(entry.get("Properties", {})) if statement["Effect"] == "Allow"]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        own = [value] if "Effect" in value and "Action" in value else []
        return own + [found for inner in value.values() for found in statements(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in statements(inner)]
    return []


def test_the_state_machine_names_only_what_the_template_substitutes(resources: dict[str, Any]) -> None:
    machine = resources["LearnStateMachine"]["Properties"]
    definition = (ROOT / machine["DefinitionUri"]).read_text()
    for name in machine["DefinitionSubstitutions"]:
        definition = definition.replace(f"${{{name}}}", "1")
    assert "${" not in definition
    states = json.loads(definition)["States"]
    assert {state["Next"] for state in states.values() if "Next" in state} <= states.keys()


# None of these costs more than cents a month while nothing is asked of it.
IDLE = {
    *("AWS::ApiGateway::ApiKey", "AWS::ApiGateway::Deployment", "AWS::ApiGateway::RestApi", "AWS::ApiGateway::Stage"),
    *("AWS::ApiGateway::UsagePlan", "AWS::ApiGateway::UsagePlanKey", "AWS::CloudWatch::Alarm", "AWS::DynamoDB::Table"),
    *("AWS::Events::Rule", "AWS::Glue::Database", "AWS::IAM::Role", "AWS::KinesisFirehose::DeliveryStream"),
    *("AWS::Lambda::EventInvokeConfig", "AWS::Lambda::EventSourceMapping", "AWS::Lambda::Function"),
    *("AWS::Lambda::LayerVersion", "AWS::Lambda::Permission", "AWS::Logs::LogGroup", "AWS::S3::Bucket"),
    *("AWS::S3::BucketPolicy", "AWS::SNS::Subscription", "AWS::SNS::Topic", "AWS::SQS::Queue", "AWS::SQS::QueuePolicy"),
    *("AWS::Scheduler::Schedule", "AWS::StepFunctions::StateMachine"),
}


def test_next_to_nothing_is_billed_while_idle(deployed: dict[str, Any]) -> None:
    assert {entry["Type"] for entry in deployed.values()} <= IDLE
    assert deployed["Table"]["Properties"]["BillingMode"] == "PAY_PER_REQUEST"
    assert "ProvisionedConcurrencyConfig" not in json.dumps(deployed)


def test_there_is_one_stage(deployed: dict[str, Any]) -> None:
    [stage] = of_type(deployed, "AWS::ApiGateway::Stage").values()
    assert stage["Properties"]["StageName"] == {"Ref": "Stage"}
    [deployment] = of_type(deployed, "AWS::ApiGateway::Deployment").values()
    assert "StageName" not in deployment["Properties"], "a deployment with a name of its own makes a second stage"


def test_the_gateway_speaks_problem_json_whatever_it_refuses(deployed: dict[str, Any]) -> None:
    responses = deployed["Api"]["Properties"]["Body"]["x-amazon-apigateway-gateway-responses"]
    assert {"DEFAULT_4XX", "DEFAULT_5XX", "QUOTA_EXCEEDED", "INTEGRATION_TIMEOUT"} <= responses.keys()
    for kind, response in responses.items():
        header = response["responseParameters"]["gatewayresponse.header.Content-Type"]
        assert header == "'application/problem+json'", kind
        [body] = response["responseTemplates"].values()
        words = body.replace("$context.error.responseType", "KIND").replace("$context.error.messageString", '"words"')
        problem = json.loads(words)
        assert problem["type"] == "about:blank"
        assert problem["title"]
        assert problem["detail"]
        # The two defaults stand for many statuses, which the gateway keeps as they are.
        assert problem.get("status") == (None if kind.startswith("DEFAULT") else int(response["statusCode"])), kind


def test_only_the_sagemaker_that_is_meant_ends_a_rung(resources: dict[str, Any]) -> None:
    pattern = resources["TrainFunction"]["Properties"]["Events"]["JobEnded"]["Properties"]["Pattern"]
    assert pattern["source"] == [{"Fn::If": ["HasSageMakerEndpoint", "twinloop.sagemaker", "aws.sagemaker"]}]


def test_the_template_goes_up_in_any_region(template: dict[str, Any]) -> None:
    """A mapping is read even where a parameter makes it needless: a region that is not in it could not deploy."""
    assert "Mappings" not in template


def test_the_queue_listens_to_the_data_bucket_whatever_its_name(resources: dict[str, Any]) -> None:
    own, made = resources["DataBucket"]["Properties"]["BucketName"]["Fn::If"][1:]
    [statement] = resources["RawQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    asked, other = statement["Condition"]["ArnEquals"]["aws:SourceArn"]["Fn::If"][1:]
    assert (own, asked["Fn::Sub"]) == ({"Ref": "DataBucketName"}, "arn:${AWS::Partition}:s3:::${DataBucketName}")
    assert other["Fn::Sub"] == f"arn:${{AWS::Partition}}:s3:::{made['Fn::Sub']}"


def test_verdicts_and_alarms_reach_whoever_asks_for_them(template: dict[str, Any]) -> None:
    subscribed = of_type(template["Resources"], "AWS::SNS::Subscription").values()
    found = {(entry["Properties"]["TopicArn"]["Ref"], entry["Properties"]["Endpoint"]["Ref"]) for entry in subscribed}
    assert found == {("News", "NewsEmail"), ("Alarms", "AlarmEmail")}
    assert template["Outputs"]["NewsTopic"]["Value"] == {"Ref": "News"}
    assert template["Outputs"]["AlarmsTopic"]["Value"] == {"Ref": "Alarms"}


@pytest.mark.parametrize("system", [system for system in SERVED if systems.load(system).presets])
def test_what_is_left_to_chance_can_be_set_and_is_read_as_it_was_meant(template, system):
    """Parameters reach `serve` under the names that its settings read, and bounds and defaults agree."""
    given = template["Resources"][SERVED[system]]["Properties"]["Environment"]["Variables"]
    # Presets of one have nothing to do with another's.
    mix = "PresetMix" if system == "video" else f"{system.title()}PresetMix"
    variables = {"CHALLENGER_SHARE": "ChallengerShare", "PRESET_MIX": mix, "EXPLORE": "Explore"}
    found = {name: str(given[f"TWINLOOP_{name}"]["Fn::Sub"]) for name in variables}
    assert found == {name: f"${{{parameter}}}" for name, parameter in variables.items()}
    defaults = {f"TWINLOOP_{n}": str(template["Parameters"][p]["Default"]) for n, p in variables.items()}
    settings = ServeSettings.from_environment({"TWINLOOP_SYSTEM": system, "TWINLOOP_BUCKET": "b", **defaults})
    assert settings == ServeSettings(system, "b")
    for parameter in ("ChallengerShare", mix):
        bounds = template["Parameters"][parameter]
        assert (bounds["MinValue"], bounds["MaxValue"]) == (0, 1)
    assert template["Parameters"]["Explore"]["AllowedValues"] == [0, 1]


@pytest.mark.parametrize("system", [system for system in SERVED if system != "search"])  # which knows of nobody's past
def test_serve_may_read_many_items_at_once_and_write_none(template, system):
    policies = template["Resources"][SERVED[system]]["Properties"]["Policies"]
    allowed = [statement for policy in policies for statement in policy["Statement"]]
    actions = [set(s["Action"]) for s in allowed if any(str(a).startswith("dynamodb:") for a in s["Action"])]
    assert actions == [{"dynamodb:GetItem", "dynamodb:BatchGetItem"}]
