"""The template keeps its promises: tags, retention, dead letters, budgets, and that nothing costs money when idle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    return dict(cfn_yaml.load(str(ROOT / "template.yaml"))["Resources"])


def of_type(resources: dict[str, Any], kind: str) -> dict[str, Any]:
    found = {name: entry for name, entry in resources.items() if entry["Type"] == kind}
    assert found
    return found


def test_every_function_has_its_folder_and_a_log_group_with_retention(resources: dict[str, Any]) -> None:
    for name, entry in of_type(resources, "AWS::Serverless::Function").items():
        assert (ROOT / entry["Properties"]["CodeUri"] / "handler.py").is_file(), name
        group = entry["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]
        assert "RetentionInDays" in resources[group]["Properties"]


def test_every_queue_that_is_consumed_has_dead_letters_and_an_alarm_on_them(resources: dict[str, Any]) -> None:
    queues = of_type(resources, "AWS::SQS::Queue")
    dead = {
        q["Properties"]["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
        for q in queues.values()
        if "RedrivePolicy" in q["Properties"]
    }
    assert dead == {name for name in queues if name.endswith("DeadLetters")}
    watched = json.dumps(of_type(resources, "AWS::CloudWatch::Alarm"))
    assert all(f'["{name}", "QueueName"]' in watched for name in dead)


def test_only_the_data_bucket_outlives_the_stack(resources: dict[str, Any]) -> None:
    kept = [name for name, entry in resources.items() if entry.get("DeletionPolicy") == "Retain"]
    assert kept == ["DataBucket"]


def test_no_policy_allows_everything(resources: dict[str, Any]) -> None:
    for name, entry in resources.items():
        for statement in statements(entry.get("Properties", {})):
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            if statement["Effect"] == "Allow":
                assert not any(action.endswith("*") for action in actions), (name, statement)


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


def test_nothing_is_billed_while_idle(resources: dict[str, Any]) -> None:
    idle_cost = {
        "AWS::EC2::Instance",
        "AWS::EC2::NatGateway",
        "AWS::SageMaker::Endpoint",
        "AWS::KMS::Key",
        "AWS::RDS::DBInstance",
    }
    assert not idle_cost & {entry["Type"] for entry in resources.values()}
    assert resources["Table"]["Properties"]["BillingMode"] == "PAY_PER_REQUEST"
    assert "ProvisionedConcurrencyConfig" not in json.dumps(resources)
