"""Addresses of AWS's prebuilt training containers, by region."""

from __future__ import annotations

from collections.abc import Mapping

from twinloop.aws.clients import client

_XGBOOST = "sagemaker-xgboost:3.2-0"
_PYTORCH = "pytorch-training:2.10.0-cpu-py313"

# Region -> the accounts that hold the XGBoost and the PyTorch containers, as the SageMaker SDK has them.
_ACCOUNTS = {
    "af-south-1": ("510948584623", "626614931356"),
    "ap-east-1": ("651117190479", "871362719292"),
    "ap-northeast-1": ("354813040037", "763104351884"),
    "ap-northeast-2": ("366743142698", "763104351884"),
    "ap-northeast-3": ("867004704886", "364406365360"),
    "ap-south-1": ("720646828776", "763104351884"),
    "ap-south-2": ("628508329040", "772153158452"),
    "ap-southeast-1": ("121021644041", "763104351884"),
    "ap-southeast-2": ("783357654285", "763104351884"),
    "ap-southeast-3": ("951798379941", "907027046896"),
    "ap-southeast-4": ("106583098589", "457447274322"),
    "ca-central-1": ("341280168497", "763104351884"),
    "ca-west-1": ("190319476487", "204538143572"),
    "cn-north-1": ("450853457545", "727897471807"),
    "cn-northwest-1": ("451049120500", "727897471807"),
    "eu-central-1": ("492215442770", "763104351884"),
    "eu-central-2": ("680994064768", "380420809688"),
    "eu-north-1": ("662702820516", "763104351884"),
    "eu-south-1": ("978288397137", "692866216735"),
    "eu-south-2": ("104374241257", "503227376785"),
    "eu-west-1": ("141502667606", "763104351884"),
    "eu-west-2": ("764974769150", "763104351884"),
    "eu-west-3": ("659782779980", "763104351884"),
    "il-central-1": ("898809789911", "780543022126"),
    "me-central-1": ("272398656194", "914824155844"),
    "me-south-1": ("801668240914", "217643126080"),
    "sa-east-1": ("737474898029", "763104351884"),
    "us-east-1": ("683313688378", "763104351884"),
    "us-east-2": ("257758044811", "763104351884"),
    "us-gov-east-1": ("237065988967", "446045086412"),
    "us-gov-west-1": ("414596584902", "442386744353"),
    "us-west-1": ("746614075791", "763104351884"),
    "us-west-2": ("246618743249", "763104351884"),
}


def training_images(*, xgboost: str = "", pytorch: str = "", region: str = "") -> Mapping[str, str]:
    """Return the training image of each framework.

    A framework without an image is left out: AWS has no prebuilt one in a region that is not listed here, and the
    stack's parameters XgboostImage and PytorchImage name none.

    Args:
        xgboost: An image of one's own.
        pytorch: An image of one's own.
        region: Where the jobs run; by default where this runs.
    """
    region = region or client("sagemaker").meta.region_name
    host = f"dkr.ecr.{region}.{'amazonaws.com.cn' if region.startswith('cn-') else 'amazonaws.com'}"
    accounts = _ACCOUNTS.get(region)
    prebuilt = (f"{accounts[0]}.{host}/{_XGBOOST}", f"{accounts[1]}.{host}/{_PYTORCH}") if accounts else ("", "")
    images = {"xgboost": xgboost or prebuilt[0], "pytorch": pytorch or prebuilt[1]}
    return {framework: image for framework, image in images.items() if image}
