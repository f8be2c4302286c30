"""Lambda functions as processes of their own on this machine: the real runtime client, and what AWS puts around it."""
