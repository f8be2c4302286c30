"""Addresses of AWS's containers, held against the SageMaker SDK's own table of them."""

from __future__ import annotations

import pytest

from twinloop.aws.images import training_images


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "af-south-1", "us-gov-west-1", "cn-north-1"])
def test_the_images_are_those_that_the_sdk_names(region: str) -> None:
    from sagemaker.core import image_uris

    found = training_images(region=region)
    assert found["xgboost"] == image_uris.retrieve("xgboost", region=region, version="3.2-0", image_scope="training")
    about = {"version": "2.10.0", "py_version": "py313", "instance_type": "ml.m5.large", "image_scope": "training"}
    assert found["pytorch"] == image_uris.retrieve("pytorch", region=region, **about)


def test_an_image_of_ones_own_goes_before_and_works_in_a_region_without_prebuilt_ones() -> None:
    assert training_images(region="us-east-1", pytorch="mine:1")["pytorch"] == "mine:1"
    assert training_images(region="mars-north-1", xgboost="mine:1") == {"xgboost": "mine:1"}
