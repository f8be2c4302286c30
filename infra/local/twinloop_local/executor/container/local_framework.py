"""What the framework containers of AWS run: the toolkit's entry point, with the script's error kept for FailureReason.

The toolkit imports it by the name in SAGEMAKER_TRAINING_MODULE, in the job's interpreter; so it stands alone in its folder and
imports nothing of ours.
"""

from sagemaker_training import entry_point, environment


def main() -> None:
    """Fetch the source bundle and run the script in it."""
    job = environment.Environment()
    entry_point.run(
        uri=job.module_dir,
        user_entry_point=job.user_entry_point,
        args=job.to_cmd_args(),
        env_vars=job.to_env_vars(),
        capture_error=True,
    )
